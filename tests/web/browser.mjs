// A real browser that records whatever a page must not do.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const axe = await readFile(fileURLToPath(import.meta.resolve("axe-core/axe.min.js")), "utf8");

export class Browser {
  constructor(browser, url) {
    this.browser = browser;
    this.url = url;
    this.seen = { console: [], foreign: [], serious: [], unsafe: [] };
  }

  static async launch(executablePath, url) {
    return new Browser(await chromium.launch({ executablePath, args: ["--no-sandbox"] }), url);
  }

  async open(options = {}) {
    const context = await this.browser.newContext({ permissions: ["clipboard-read", "clipboard-write"], ...options });
    const page = await context.newPage();
    page.on("console", (message) => { if (message.type() === "error") this.seen.console.push(message.text()); });
    page.on("pageerror", (error) => this.seen.console.push(String(error)));
    page.on("dialog", (dialog) => { this.seen.console.push(`ran: ${dialog.message()}`); dialog.dismiss(); });
    page.on("request", (request) => { if (new URL(request.url()).origin !== new URL(this.url).origin) this.seen.foreign.push(request.url()); });
    return page;
  }

  /** Records accessibility barriers, content wider than the window, and elements that the page never makes. */
  async check(page, view) {
    const found = await page.evaluate(`(() => { const module = undefined; const define = undefined; ${axe}; return axe.run(document); })()`);
    const bad = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    this.seen.serious.push(...bad.map(({ id, nodes }) => `${view}: ${id}: ${nodes[0].html}`));
    const { scroll, width } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, width: innerWidth }));
    if (scroll > width) this.seen.serious.push(`${view}: ${scroll} wide on ${width}`);
    const made = await page.evaluate(() => [...document.body.querySelectorAll("img, script, iframe, svg:not(.plot), [onerror], [onclick], [onload], a[href^=javascript]")].map((each) => each.outerHTML));
    this.seen.unsafe.push(...made.map((html) => `${view}: ${html}`));
  }

  async finish(more) {
    await this.browser.close();
    console.log(JSON.stringify({ ...this.seen, ...more }));
  }
}

export async function ask(page, question) {
  await page.fill("#question", question);
  await page.keyboard.press("Enter");
  return waitForAnswer(page);
}

/** Returns the text of the newest answer when it is complete. */
export async function waitForAnswer(page) {
  await page.waitForSelector("#send:not([hidden])", { timeout: 60000 });
  return page.textContent("article.assistant:last-of-type .text");
}

/** Drops a file onto the page. */
export async function dropFile(page, name, content) {
  const transfer = await page.evaluateHandle(([name, content]) => {
    const made = new DataTransfer();
    made.items.add(new File([content], name));
    return made;
  }, [name, content]);
  await page.dispatchEvent("main", "dragover", { dataTransfer: transfer });
  await page.waitForSelector("#drop:not([hidden])");
  await page.dispatchEvent("main", "drop", { dataTransfer: transfer });
}
