// Drives the page of a server that needs keys, and prints a report as JSON: node key.mjs URL CHROMIUM KEY
import { Browser, dropFile } from "./browser.mjs";

const [url, executablePath, key] = process.argv.slice(2);
const browser = await Browser.launch(executablePath, url);
const report = {};
const page = await browser.open();

async function enterKey(text) {
  await page.waitForSelector("#key[open]");
  await page.fill("#key-text", text);
  await page.keyboard.press("Enter");
}

await page.goto(url);
await page.waitForSelector("#key[open]");
report.forgettable = await page.isVisible("#key-forget");
await browser.check(page, "key");
await page.keyboard.press("Escape");
await page.waitForSelector("#error:has-text('needs an API key')");
report.closed = await page.isHidden("#key");
await page.click("#key-open");
await enterKey("clst_wrong");
await page.waitForSelector("#key-wrong:not([hidden])");
await enterKey(key);
await page.waitForFunction(() => document.querySelectorAll("#collection option").length > 1);
report.collections = await page.$$eval("#collection option", (options) => options.map(({ textContent }) => textContent));
report.wrong = await page.textContent("#error");
report.stored = await page.evaluate(() => ({ local: JSON.stringify(localStorage), session: sessionStorage.getItem("key") }));
await dropFile(page, "note.md", "A note.");
report.refused = await page.textContent("#added li[data-state=failed]");
await page.reload();
await page.waitForFunction(() => document.querySelectorAll("#collection option").length > 1);
await page.context().setOffline(true);
await page.keyboard.press("Alt+3");
await page.waitForSelector("#error:has-text('does not answer')");
await page.context().setOffline(false);
await page.waitForSelector("#plots svg");
report.found = await page.textContent("#error");
await page.click("#key-open");
await page.waitForSelector("#key[open]");
await page.click("#key-forget");
await page.waitForSelector("#key[open]");
report.forgotten = await page.evaluate(() => sessionStorage.getItem("key"));
await browser.finish(report);
