// Takes pictures of the page: node pictures.mjs URL CHROMIUM FOLDER
import { Browser, asked } from "./browser.mjs";

const [url, executablePath, folder] = process.argv.slice(2);
const WAIT_MS = 9000; // until there is something to plot
const SIZES = {
  light: { colorScheme: "light", viewport: { width: 1100, height: 720 } },
  dark: { colorScheme: "dark", viewport: { width: 1100, height: 720 } },
  phone: { colorScheme: "light", viewport: { width: 360, height: 720 } },
};
const browser = await Browser.launched(executablePath, url);
for (const [name, options] of Object.entries(SIZES)) {
  const page = await browser.opened(options);
  for (const view of ["ask", "library", "status"]) {
    await page.goto(`${url}/#${view}`);
    if (view === "ask") await asked(page, "How long is parental leave?");
    if (view === "library") {
      await page.click("#collections summary");
      await page.waitForSelector("#collections tr");
    }
    if (view === "status") {
      await page.waitForSelector("#plots svg");
      await page.waitForTimeout(WAIT_MS);
    }
    await page.screenshot({ path: `${folder}/${view}-${name}.png` });
  }
}
await browser.told({});
