// Switches between the views; each runs while it is shown.
import { enterAsking, startAsking } from "./ask.js";
import { $ } from "./dom.js";
import { KeyNeeded, onKey, startKey } from "./key.js";
import { enterLibrary, startLibrary } from "./library.js";
import { enterStatus } from "./status.js";

const VIEWS = { ask: enterAsking, library: enterLibrary, status: enterStatus };
const RETRY_MS = 2000;
let leave = new AbortController();

/** Shows the message, if it is not shown already: screen readers announce each change. */
function showError(message) {
  if ($("error").textContent !== message) $("error").textContent = message;
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
  showError("");
  for (;;) {
    try {
      return await VIEWS[name](signal, () => showError(""));
    } catch (error) {
      if (signal.aborted) return;
      showError(error.message);
      if (error instanceof KeyNeeded) return; // the view is entered again when there is a key
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
