// Drives the page in a real browser, and prints a report as JSON: node page.mjs URL CHROMIUM FOLDER
import { writeFile } from "node:fs/promises";
import { Browser, waitForAnswer, ask, dropFile } from "./browser.mjs";

const [url, executablePath, folder] = process.argv.slice(2);
const QUESTION = "How long is parental leave?";
const [NUM_PAINTS, MAX_ROUNDS, MAX_PAINT_MS] = [5, 4, 300];
const NUM_NEW = 30;
const LONG = Array.from({ length: 8 }, (_, i) => `## Shelf ${i}\n\n${`The shelf ${i} holds boxes of paper clips and pens. `.repeat(8)}`).join("\n\n"); // takes seconds to index
const browser = await Browser.launch(executablePath, url);
const report = { bytes: 0 };

async function paint() {
  const page = await browser.open();
  await page.goto(url);
  await page.waitForSelector(".empty");
  const [entry] = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint").map(({ startTime }) => startTime));
  await page.context().close();
  return entry;
}

const page = await browser.open();
const loaded = [];
page.on("response", (response) => { if (/^\/(web\/|$)/.test(new URL(response.url()).pathname)) loaded.push(response.body().then((body) => body.length)); });
await page.goto(url);
await page.waitForSelector(".empty");
report.bytes = (await Promise.all(loaded)).reduce((sum, each) => sum + each, 0);
report.collections = await page.$$eval("#collection option", (options) => options.map(({ textContent }) => textContent));

// Ask, open a source, ask again, copy
report.answer = await ask(page, QUESTION);
report.cost = await page.textContent(".cost");
await browser.check(page, "ask");
await page.click(".chip");
await page.waitForSelector("#passage section.cited");
report.passage = await page.textContent("#passage section.cited");
await browser.check(page, "passage");
await page.keyboard.press("Escape");
await page.waitForSelector("#passage:not([open])", { state: "attached" });
await page.click("text=Ask again");
await page.waitForSelector("article.assistant:has-text('2/2') .cost");
await page.click("article.assistant >> text=Copy");
await page.waitForSelector("text=Copied");
report.copied = await page.evaluate(() => navigator.clipboard.readText());

// Edit the question, and go back to the first version
await page.click("text=Edit");
await page.keyboard.press("Escape");
await page.waitForSelector("article.user .text");
report.focusAfterEdit = await page.evaluate(() => document.activeElement.textContent);
await page.keyboard.press("Enter");
await page.fill("article.user textarea", "What comes first on a journey, a train or a flight?");
await page.keyboard.press("Enter");
report.edited = await waitForAnswer(page);
await page.click("article.user [aria-label='Previous version']");
report.back = await page.textContent("article.assistant .text");

// Sources are known before the answer is complete: this stream ends early
await page.route("**/v1/chat/completions", async (route) => {
  const text = await (await route.fetch()).text();
  const frames = text.split("\n\n");
  const end = frames.findLastIndex((frame) => frame.includes('"rag"'));
  await route.fulfill({ contentType: "text/event-stream", body: `${frames.slice(0, end).join("\n\n")}\n\n` });
});
await page.click("#new");
await ask(page, QUESTION);
report.early = await page.locator("article.assistant .chip").count();
await page.unroute("**/v1/chat/completions");

// Stop by the button and by Escape
await page.route("**/v1/chat/completions", () => {}); // never answered
for (const stop of [() => page.click("#stop"), () => page.keyboard.press("Escape")]) {
  await page.click("#new");
  await page.fill("#question", "Wait");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#stop:not([hidden])");
  await stop();
  await page.waitForSelector("text=Stopped.");
}
report.stopped = await page.isVisible("#send");
await page.unroute("**/v1/chat/completions");

// A hostile document with a hostile name, asked about after a stopped question
let sent = null;
page.once("request", (request) => { sent = request.postDataJSON(); });
report.hostile = await ask(page, "Which word opens the vault?");
report.afterStop = sent.messages.length;
report.hostileSource = await page.getAttribute("article.assistant .chip", "aria-label");
await page.click(".chip");
await page.waitForSelector("#passage section.cited");
report.hostilePassage = await page.textContent("#passage section.cited");
await browser.check(page, "hostile");
await page.keyboard.press("Escape");

// Drop a file onto the page, and ask about it at once
await page.click("#new");
await dropFile(page, "cat <img src=x onerror=alert(8)>.md", "# The office cat\n\nThe office cat is fed by the night porter at seven.\n");
report.added = await ask(page, "Who feeds the office cat?");
report.addedSource = await page.getAttribute("article.assistant .chip", "aria-label");
report.scope = await page.inputValue("#collection");
await browser.check(page, "added");
await dropFile(page, "cat.exe", "MZ");
report.refused = await page.textContent("#added li[data-state=failed]");

await page.reload();
await page.waitForSelector("#conversations li");
report.kept = await page.$$eval("#conversations li button:first-child", (titles) => titles.map(({ textContent }) => textContent));

// The library: states, reasons, a retry, live progress
await page.keyboard.press("Alt+2");
await page.waitForSelector("#collections article");
await page.waitForSelector("#added-files tr");
for (const left of [1, 0]) {
  await page.locator("#added-files button").first().click();
  await page.waitForFunction((left) => document.querySelectorAll("#added-files tr").length === left, left);
}
await page.click("#collections >> text=1 file failed");
await page.waitForSelector("#collections tr[data-state=failed]");
report.failed = await page.locator("#collections tr").count();
await page.selectOption("#collections select", "");
await page.waitForSelector("#collections tr[data-state=indexed]");
report.files = await page.$$eval("#collections tr", (rows) => rows.map(({ children }) => [children[0].textContent, children[1].textContent]));
await browser.check(page, "library");
await page.click("#pause");
await page.waitForFunction(() => document.querySelector("#activity").textContent.startsWith("Paused"));
await page.locator("#collections tr[data-state=failed] button").focus();
await page.keyboard.press("Enter");
report.retried = await page.textContent("#collections tr[data-state=pending]");
await Promise.all(Array.from({ length: NUM_NEW }, (_, i) => writeFile(`${folder}/new-${i}.md`, `# Store ${i}\n\n${LONG}\n`)));
await page.focus("#collections input");
await page.click("#pause");
const progress = page.evaluate(() => new Promise((resolve) => {
  const shares = new Set();
  const record = () => {
    const bar = document.querySelector("#indexed");
    if (!bar.hidden) shares.add(bar.value / bar.max);
  };
  new MutationObserver(record).observe(document.querySelector("#indexed"), { attributes: true });
  document.addEventListener("done", () => resolve([...shares]), { once: true });
}));
await page.focus("#collections input");
await page.waitForFunction((num) => document.querySelectorAll("#collections tr[data-state=indexed]").length === num, NUM_NEW + 4, { timeout: 60000 });
await page.waitForFunction(() => document.querySelector("#activity").textContent.includes("Up to date"), null, { timeout: 60000 });
report.focus = await page.evaluate(() => document.activeElement.type);
await page.evaluate(() => document.dispatchEvent(new Event("done")));
report.progress = await progress;
report.library = await page.textContent("#collections");
await page.fill("#explain [name=query]", QUESTION);
await page.fill("#explain [name=path]", "travel.md");
await page.click("#explain button");
await page.waitForSelector("#explanation strong", { timeout: 10000 });
report.explanation = await page.textContent("#explanation");

await page.keyboard.press("Alt+3");
await page.waitForSelector("#plots svg");
report.status = await page.textContent("#view-status");
await browser.check(page, "status");

for (const [name, options] of Object.entries({
  dark: { colorScheme: "dark" },
  phone: { viewport: { width: 360, height: 720 } },
})) {
  const shown = await browser.open(options);
  await shown.goto(url);
  await ask(shown, QUESTION);
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
report.paints_ms = [];
do { // repeat while the machine was busy with something else
  const paints = [];
  for (let i = 0; i < NUM_PAINTS; i++) paints.push(await paint());
  report.paints_ms.push(median(paints));
} while (report.paints_ms.at(-1) > MAX_PAINT_MS && report.paints_ms.length < MAX_ROUNDS);
await browser.finish(report);
