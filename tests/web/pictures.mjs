// Takes pictures of the page: node pictures.mjs URL CHROMIUM FOLDER
import { Browser, ask, dropFile } from "./browser.mjs";

const [url, executablePath, folder] = process.argv.slice(2);
const NUM_ASKED = 6; // so that there is something to plot
const WAIT_MS = 2500;
const SIZES = {
  light: { colorScheme: "light", viewport: { width: 1100, height: 720 } },
  dark: { colorScheme: "dark", viewport: { width: 1100, height: 720 } },
  phone: { colorScheme: "light", viewport: { width: 360, height: 720 } },
};
const browser = await Browser.launch(executablePath, url);
const other = await browser.open();
await other.goto(url);
await dropFile(other, "minutes.md", "# Minutes\n\nThe garden party is on the first Friday in June.\n");
await ask(other, "When is the garden party?");
for (const [name, options] of Object.entries(SIZES)) {
  const page = await browser.open(options);
  for (const view of ["ask", "library", "status"]) {
    await page.goto(`${url}/#${view}`);
    if (view === "ask") await ask(page, "How long is parental leave?");
    if (view === "library") {
      await page.click("#collections summary");
      await page.waitForSelector("#collections tr");
    }
    if (view === "status") {
      await page.waitForSelector("#plots svg");
      for (let i = 0; i < NUM_ASKED; i++) {
        if (i % 3 === 0) await other.click("#new");
        await ask(other, ["How long is parental leave?", "What comes first, a train or a flight?", "Where is the spare key?"][i % 3]);
        await page.waitForTimeout(WAIT_MS);
      }
    }
    await page.screenshot({ path: `${folder}/${view}-${name}.png` });
  }
}
await browser.finish({});
