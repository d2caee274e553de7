// Which view is shown, and what runs while it is.
import { enterAsking, startAsking } from "./ask.js";
import { $ } from "./dom.js";
import { KeyNeeded, onKey, startKey } from "./key.js";
import { enterLibrary, startLibrary } from "./library.js";
import { enterStatus } from "./status.js";

const VIEWS = { ask: enterAsking, library: enterLibrary, status: enterStatus };
const RETRY_MS = 2000;
let leave = new AbortController();

/** What is wrong, once. */
function tell(wrong) {
  if ($("wrong").textContent !== wrong) $("wrong").textContent = wrong;
}

async function enter() {
  leave.abort();
  const { signal } = (leave = new AbortController());
  const name = location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "ask";
  for (const each of Object.keys(VIEWS)) $(`view-${each}`).hidden = each !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  tell("");
  for (;;) {
    try {
      return await VIEWS[name](signal, () => tell(""));
    } catch (error) {
      if (signal.aborted) return;
      tell(error.message);
      if (error instanceof KeyNeeded) return; // until there is one
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      if (signal.aborted) return;
    }
  }
}

startKey();
startAsking();
startLibrary();
addEventListener("hashchange", enter);
onKey(enter);
document.addEventListener("keydown", (event) => {
  const name = event.altKey && Object.keys(VIEWS)[Number(event.key) - 1];
  if (name) {
    event.preventDefault();
    location.hash = name;
  } else if (event.key === "/" && !document.querySelector("dialog[open]") && !/INPUT|TEXTAREA|SELECT/.test(document.activeElement.tagName)) {
    event.preventDefault();
    location.hash = "ask";
    $("question").focus();
  }
});
enter();
