// Drives the page of a server that wants keys, and tells what was seen as JSON: node key.mjs URL CHROMIUM KEY
import { Browser, dropped } from "./browser.mjs";

const [url, executablePath, key] = process.argv.slice(2);
const browser = await Browser.launched(executablePath, url);
const told = {};
const page = await browser.opened();

async function given(text) {
  await page.waitForSelector("#key[open]");
  await page.fill("#key-text", text);
  await page.keyboard.press("Enter");
}

await page.goto(url);
await page.waitForSelector("#key[open]");
told.forgettable = await page.isVisible("#key-forget");
await browser.check(page, "key");
await page.keyboard.press("Escape");
await page.waitForSelector("#wrong:has-text('wants a key')");
told.closed = await page.isHidden("#key");
await page.click("#key-open");
await given("clst_wrong");
await page.waitForSelector("#key-wrong:not([hidden])");
await given(key);
await page.waitForFunction(() => document.querySelectorAll("#collection option").length > 1);
told.collections = await page.$$eval("#collection option", (options) => options.map(({ textContent }) => textContent));
told.wrong = await page.textContent("#wrong");
told.stored = await page.evaluate(() => ({ local: JSON.stringify(localStorage), session: sessionStorage.getItem("key") }));
await dropped(page, "note.md", "A note.");
told.refused = await page.textContent("#added li[data-state=failed]");
await page.reload();
await page.waitForFunction(() => document.querySelectorAll("#collection option").length > 1);
await page.context().setOffline(true);
await page.keyboard.press("Alt+3");
await page.waitForSelector("#wrong:has-text('does not answer')");
await page.context().setOffline(false);
await page.waitForSelector("#plots svg");
told.found = await page.textContent("#wrong");
await page.click("#key-open");
await page.waitForSelector("#key[open]");
await page.click("#key-forget");
await page.waitForSelector("#key[open]");
told.forgotten = await page.evaluate(() => sessionStorage.getItem("key"));
await browser.told(told);
