// Which view is shown, and what runs while it is.
import { enterAsking, startAsking } from "./ask.js";
import { $, el } from "./dom.js";
import { enterLibrary, startLibrary } from "./library.js";
import { enterStatus } from "./status.js";

const VIEWS = { ask: enterAsking, library: enterLibrary, status: enterStatus };
const RETRY_MS = 2000;
let leave = new AbortController();

async function enter() {
  leave.abort();
  const { signal } = (leave = new AbortController());
  const name = location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "ask";
  for (const each of Object.keys(VIEWS)) $(`view-${each}`).hidden = each !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  while (!signal.aborted) {
    try {
      await VIEWS[name](signal);
      document.querySelector(".lost")?.remove();
      return;
    } catch (error) {
      if (signal.aborted) return;
      document.querySelector(".lost")?.remove();
      $(`view-${name}`).append(el("p", { class: "lost bad", role: "alert" }, error.message));
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

startAsking();
startLibrary();
addEventListener("hashchange", enter);
document.addEventListener("keydown", (event) => {
  const name = event.altKey && Object.keys(VIEWS)[Number(event.key) - 1];
  if (name) {
    event.preventDefault();
    location.hash = name;
  } else if (event.key === "/" && !/INPUT|TEXTAREA|SELECT/.test(document.activeElement.tagName)) {
    event.preventDefault();
    location.hash = "ask";
    $("question").focus();
  }
});
enter();
