// This tab's API key. One dialog asks for it when the server needs it, changes it and forgets it.
import { $ } from "./dom.js";

const NAME = "key";
const CHANGED = "keychange"; // event of the document when the key is set or removed
let asking = null;

export class KeyNeeded extends Error {
  constructor() {
    super("This server needs an API key.");
  }
}

export const key = () => sessionStorage.getItem(NAME);
export const onKey = (listener) => document.addEventListener(CHANGED, listener);

/** Opens the dialog, and resolves when a key is saved. Throws `KeyNeeded` if none is. */
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
      if (dialog.returnValue === "save" && text) {
        store(text);
        resolve();
      } else {
        if (dialog.returnValue === "forget") store(null);
        reject(new KeyNeeded());
      }
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

function store(text) {
  if (text) sessionStorage.setItem(NAME, text);
  else sessionStorage.removeItem(NAME);
  document.dispatchEvent(new Event(CHANGED));
}

export function startKey() {
  $("key-open").hidden = !key();
  $("key-open").addEventListener("click", () => {
    askKey().catch(() => {}); // a request that needs a key asks again
    $("key-wrong").hidden = true;
  });
}
