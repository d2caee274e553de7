// The key of this tab: asked for when the server wants one, changed and forgotten in the same dialog.
import { $ } from "./dom.js";

const NAME = "key";
const CHANGED = "keychange"; // of the document: another key, or none
let asking = null;

export class KeyNeeded extends Error {
  constructor() {
    super("This server wants a key.");
  }
}

export const key = () => sessionStorage.getItem(NAME);
export const onKey = (listener) => document.addEventListener(CHANGED, listener);

/** Until the dialog is closed. Throws `KeyNeeded` where no key was given. */
export function askKey() {
  $("key-open").hidden = false;
  asking ??= new Promise((resolve, reject) => {
    const dialog = $("key");
    $("key-wrong").hidden = !key();
    $("key-forget").hidden = !key();
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      asking = null;
      const text = $("key-text").value.trim();
      $("key-text").value = "";
      if (dialog.returnValue === "give" && text) {
        keep(text);
        resolve();
      } else {
        if (dialog.returnValue === "forget") keep(null);
        reject(new KeyNeeded());
      }
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

function keep(text) {
  if (text) sessionStorage.setItem(NAME, text);
  else sessionStorage.removeItem(NAME);
  document.dispatchEvent(new Event(CHANGED));
}

export function startKey() {
  $("key-open").hidden = !key();
  $("key-open").addEventListener("click", () => {
    askKey().catch(() => {}); // whoever waits for a key asks again
    $("key-wrong").hidden = true;
  });
}
