// What is asked: all collections, one of them, or the files that were added.
import { addedStore } from "./added.js";
import { $, el } from "./dom.js";

const ADDED = ".added"; // no collection's name begins with a dot
let names = [];
let isWished = false; // as soon as there is one to ask

export function offerCollections(found) {
  names = found;
  offer();
}

/** Keeps the choice, if it is still there. */
export function offer() {
  const chosen = $("collection").value;
  const options = [["", "All collections"], ...names.map((name) => [name, name]), ...(addedStore() ? [[ADDED, "Added files"]] : [])];
  $("collection").replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
  const wanted = isWished && addedStore() ? ADDED : chosen;
  if (wanted === ADDED) isWished = false;
  $("collection").value = options.some(([value]) => value === wanted) ? wanted : "";
}

export function chooseAdded() {
  isWished = true;
}

/** The field `rag` of a question. */
export function scope() {
  const [chosen, store] = [$("collection").value, addedStore()];
  if (chosen && chosen !== ADDED) return { collections: [chosen] };
  if (!store) return {};
  return { vector_stores: [store], ...(chosen || !names.length ? {} : { collections: names }) };
}
