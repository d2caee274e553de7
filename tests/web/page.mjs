// Drives the page in a real browser, and tells what was seen as JSON: node page.mjs URL CHROMIUM [FOLDER FOR PICTURES]
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const [url, executablePath, pictures] = process.argv.slice(2);
const axe = await readFile(fileURLToPath(import.meta.resolve("axe-core/axe.min.js")), "utf8");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const seen = { console: [], foreign: [], serious: [], bytes: 0 };

let isChecking = false; // what axe does in the page is not the page's; nor are the browser's words on hostile text

async function opened(options = {}) {
  const context = await browser.newContext({ bypassCSP: false, ...options });
  const page = await context.newPage();
  page.on("console", (message) => { if (message.type() === "error" && !isChecking) seen.console.push(message.text()); });
  page.on("pageerror", (error) => seen.console.push(String(error)));
  page.on("dialog", (dialog) => { seen.console.push(`ran: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => { if (new URL(request.url()).origin !== new URL(url).origin) seen.foreign.push(request.url()); });
  return page;
}

async function check(page, view) {
  isChecking = true;
  const found = await page.evaluate(`(() => { const module = undefined; const define = undefined; ${axe}; return axe.run(document); })()`);
  isChecking = false;
  const bad = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  seen.serious.push(...bad.map(({ id, nodes }) => `${view}: ${id}: ${nodes[0].html}`));
}

async function asked(page, question) {
  await page.fill("#question", question);
  await page.keyboard.press("Enter");
  await page.waitForSelector("article.assistant .cost", { timeout: 60000 });
}

const page = await opened();
page.on("response", async (response) => {
  if (/\/(web\/|$)/.test(new URL(response.url()).pathname)) seen.bytes += (await response.body().catch(() => "")).length;
});
await page.goto(url);
await page.waitForSelector(".empty");
seen.paint_ms = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null);
await asked(page, "How long is parental leave?");
seen.answer = await page.textContent("article.assistant .text");
seen.cost = await page.textContent(".cost");
await check(page, "ask");
await page.click(".chip");
await page.waitForSelector("#passage section.cited");
seen.passage = await page.textContent("#passage section.cited");
await check(page, "passage");
await page.keyboard.press("Escape");
await page.click("text=Ask again");
await page.waitForSelector("text=2/2");
await page.reload();
await page.waitForSelector("#conversations li");
seen.kept = await page.textContent("#conversations li button");
await page.keyboard.press("Alt+2");
await page.waitForSelector("#collections article");
seen.library = await page.textContent("#collections");
await page.fill("#explain [name=query]", "How long is parental leave?");
await page.fill("#explain [name=path]", "travel.md");
await page.click("#explain button");
await page.waitForSelector("#explanation strong", { timeout: 10000 });
seen.explanation = await page.textContent("#explanation");
await check(page, "library");
await page.keyboard.press("Alt+3");
await page.waitForSelector("#plots svg");
seen.status = await page.textContent("#view-status");
await check(page, "status");
isChecking = true;
await page.evaluate(async () => {
  const { rendered } = await import("/web/markdown.js");
  const bad = '<img src=x onerror="alert(1)"> <script>alert(2)</script> [x](javascript:alert(3)) <svg onload=alert(4)> <b style="color:red">b</b> ![p](https://example.org/p.png) [1]';
  document.body.append(rendered(bad, new Map([[1, { number: 1, path: '"><img src=x onerror=alert(5)>' }]]), () => {}));
});
seen.unsafe = await page.evaluate(() => document.querySelectorAll("body img, body script, body svg[onload], [onerror], [style], a[href^=javascript]").length);
isChecking = false;

for (const [name, options] of Object.entries(pictures ? {
  light: { colorScheme: "light", viewport: { width: 1100, height: 720 } },
  dark: { colorScheme: "dark", viewport: { width: 1100, height: 720 } },
  phone: { colorScheme: "light", viewport: { width: 360, height: 720 } },
} : { phone: { viewport: { width: 360, height: 720 } } })) {
  const shown = await opened(options);
  for (const view of ["ask", "library", "status"]) {
    await shown.goto(`${url}/#${view}`);
    await shown.waitForSelector({ ask: ".empty, article", library: "#collections article", status: "#plots svg" }[view]);
    if (view === "ask") await asked(shown, "How long is parental leave?");
    if (view === "status" && pictures) await shown.waitForTimeout(9000);
    const { scroll, width } = await shown.evaluate(() => ({ scroll: document.documentElement.scrollWidth, width: innerWidth }));
    if (scroll > width) seen.serious.push(`${name} ${view}: ${scroll} wide on ${width}`);
    if (pictures) await shown.screenshot({ path: `${pictures}/${view}-${name}.png` });
  }
}
await browser.close();
console.log(JSON.stringify(seen));
