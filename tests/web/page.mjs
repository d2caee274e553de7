// Drives the page in a real browser, and tells what was seen as JSON: node page.mjs URL CHROMIUM FOLDER
import { writeFile } from "node:fs/promises";
import { Browser, answered, asked, dropped } from "./browser.mjs";

const [url, executablePath, folder] = process.argv.slice(2);
const QUESTION = "How long is parental leave?";
const [NUM_PAINTS, MOST_ROUNDS, MOST_PAINT_MS] = [5, 4, 300];
const NUM_NEW = 30;
const LONG = Array.from({ length: 8 }, (_, i) => `## Shelf ${i}\n\n${`The shelf ${i} holds boxes of paper clips and pens. `.repeat(8)}`).join("\n\n"); // it takes seconds
const browser = await Browser.launched(executablePath, url);
const told = { bytes: 0 };

async function paint() {
  const page = await browser.opened();
  await page.goto(url);
  await page.waitForSelector(".empty");
  const [entry] = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint").map(({ startTime }) => startTime));
  await page.context().close();
  return entry;
}

const page = await browser.opened();
const loaded = [];
page.on("response", (response) => { if (/^\/(web\/|$)/.test(new URL(response.url()).pathname)) loaded.push(response.body().then((body) => body.length)); });
await page.goto(url);
await page.waitForSelector(".empty");
told.bytes = (await Promise.all(loaded)).reduce((sum, each) => sum + each, 0);
told.collections = await page.$$eval("#collection option", (options) => options.map(({ textContent }) => textContent));

// An answer, its source, another answer, its copy
told.answer = await asked(page, QUESTION);
told.cost = await page.textContent(".cost");
await browser.check(page, "ask");
await page.click(".chip");
await page.waitForSelector("#passage section.cited");
told.passage = await page.textContent("#passage section.cited");
await browser.check(page, "passage");
await page.keyboard.press("Escape");
await page.waitForSelector("#passage:not([open])", { state: "attached" });
await page.click("text=Ask again");
await page.waitForSelector("article.assistant:has-text('2/2') .cost");
await page.click("article.assistant >> text=Copy");
await page.waitForSelector("text=Copied");
told.copied = await page.evaluate(() => navigator.clipboard.readText());

// The question put otherwise, and back
await page.click("text=Edit");
await page.keyboard.press("Escape");
await page.waitForSelector("article.user .text");
told.focusAfterEdit = await page.evaluate(() => document.activeElement.textContent);
await page.keyboard.press("Enter");
await page.fill("article.user textarea", "What comes first on a journey, a train or a flight?");
await page.keyboard.press("Enter");
told.edited = await answered(page);
await page.click("article.user [aria-label='Branch before']");
told.back = await page.textContent("article.assistant .text");

// Sources that are known before the answer is complete: its stream ends at the marker
await page.route("**/v1/chat/completions", async (route) => {
  const text = await (await route.fetch()).text();
  const frames = text.split("\n\n");
  const end = frames.findLastIndex((frame) => frame.includes('"rag"'));
  await route.fulfill({ contentType: "text/event-stream", body: `${frames.slice(0, end).join("\n\n")}\n\n` });
});
await page.click("#new");
await asked(page, QUESTION);
told.early = await page.locator("article.assistant .chip").count();
await page.unroute("**/v1/chat/completions");

// Stopping, by the button and by Escape
await page.route("**/v1/chat/completions", () => {}); // never answered
for (const stop of [() => page.click("#stop"), () => page.keyboard.press("Escape")]) {
  await page.click("#new");
  await page.fill("#question", "Wait");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#stop:not([hidden])");
  await stop();
  await page.waitForSelector("text=Stopped.");
}
told.stopped = await page.isVisible("#send");
await page.unroute("**/v1/chat/completions");

// A document and names that mean harm, behind a question that was stopped
let sent = null;
page.once("request", (request) => { sent = request.postDataJSON(); });
told.hostile = await asked(page, "Which word opens the vault?");
told.afterStop = sent.messages.length;
told.hostileSource = await page.getAttribute("article.assistant .chip", "aria-label");
await page.click(".chip");
await page.waitForSelector("#passage section.cited");
told.hostilePassage = await page.textContent("#passage section.cited");
await browser.check(page, "hostile");
await page.keyboard.press("Escape");

// A file that is dragged onto the page, and asked about at once
await page.click("#new");
await dropped(page, "cat <img src=x onerror=alert(8)>.md", "# The office cat\n\nThe office cat is fed by the night porter at seven.\n");
told.added = await asked(page, "Who feeds the office cat?");
told.addedSource = await page.getAttribute("article.assistant .chip", "aria-label");
told.scope = await page.inputValue("#collection");
await browser.check(page, "added");
await dropped(page, "cat.exe", "MZ");
told.refused = await page.textContent("#added li[data-state=failed]");

await page.reload();
await page.waitForSelector("#conversations li");
told.kept = await page.$$eval("#conversations li button:first-child", (titles) => titles.map(({ textContent }) => textContent));

// The library: states, reasons, a retry, live progress
await page.keyboard.press("Alt+2");
await page.waitForSelector("#collections article");
await page.waitForSelector("#kept-files tr");
for (const left of [1, 0]) {
  await page.locator("#kept-files button").first().click();
  await page.waitForFunction((left) => document.querySelectorAll("#kept-files tr").length === left, left);
}
await page.click("#collections >> text=1 file not read");
await page.waitForSelector("#collections tr[data-state=failed]");
told.failed = await page.locator("#collections tr").count();
await page.selectOption("#collections select", "");
await page.waitForSelector("#collections tr[data-state=indexed]");
told.files = await page.$$eval("#collections tr", (rows) => rows.map(({ children }) => [children[0].textContent, children[1].textContent]));
await browser.check(page, "library");
await page.click("#pause");
await page.waitForFunction(() => document.querySelector("#activity").textContent.startsWith("paused"));
await page.locator("#collections tr[data-state=failed] button").focus();
await page.keyboard.press("Enter");
told.retried = await page.textContent("#collections tr[data-state=pending]");
await Promise.all(Array.from({ length: NUM_NEW }, (_, i) => writeFile(`${folder}/new-${i}.md`, `# Store ${i}\n\n${LONG}\n`)));
await page.focus("#collections input");
await page.click("#pause");
const progress = page.evaluate(() => new Promise((resolve) => {
  const shown = new Set();
  const note = () => {
    const bar = document.querySelector("#indexed");
    if (!bar.hidden) shown.add(bar.value / bar.max);
  };
  new MutationObserver(note).observe(document.querySelector("#indexed"), { attributes: true });
  document.addEventListener("done", () => resolve([...shown]), { once: true });
}));
await page.focus("#collections input");
await page.waitForFunction((num) => document.querySelectorAll("#collections tr[data-state=indexed]").length === num, NUM_NEW + 4, { timeout: 60000 });
await page.waitForFunction(() => document.querySelector("#activity").textContent.includes("equal to the folders"), null, { timeout: 60000 });
told.focus = await page.evaluate(() => document.activeElement.type);
await page.evaluate(() => document.dispatchEvent(new Event("done")));
told.progress = await progress;
told.library = await page.textContent("#collections");
await page.fill("#explain [name=query]", QUESTION);
await page.fill("#explain [name=path]", "travel.md");
await page.click("#explain button");
await page.waitForSelector("#explanation strong", { timeout: 10000 });
told.explanation = await page.textContent("#explanation");

await page.keyboard.press("Alt+3");
await page.waitForSelector("#plots svg");
told.status = await page.textContent("#view-status");
await browser.check(page, "status");

for (const [name, options] of Object.entries({
  dark: { colorScheme: "dark" },
  phone: { viewport: { width: 360, height: 720 } },
})) {
  const shown = await browser.opened(options);
  await shown.goto(url);
  await asked(shown, QUESTION);
  await browser.check(shown, `${name} ask`);
  await shown.click(".chip");
  await shown.waitForSelector("#passage section.cited");
  await browser.check(shown, `${name} passage`);
  await shown.keyboard.press("Escape");
  await shown.keyboard.press("Alt+2");
  await shown.click("#collections summary");
  await shown.waitForSelector("#collections tr");
  await browser.check(shown, `${name} library`);
  await shown.keyboard.press("Alt+3");
  await shown.waitForSelector("#plots svg");
  await browser.check(shown, `${name} status`);
}
const median = (figures) => figures.toSorted((a, b) => a - b)[Math.floor(figures.length / 2)];
told.paints_ms = [];
do { // again, where the machine was busy with something else
  const paints = [];
  for (let i = 0; i < NUM_PAINTS; i++) paints.push(await paint());
  told.paints_ms.push(median(paints));
} while (told.paints_ms.at(-1) > MOST_PAINT_MS && told.paints_ms.length < MOST_ROUNDS);
await browser.told(told);
