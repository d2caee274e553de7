// What is searched: all collections, one of them, or the added files.
import { addedStore } from "./added.js";
import { $, el } from "./dom.js";

const ADDED = ".added"; // no collection's name begins with a dot
let names = [];
let isAddedWanted = false; // select the added files as soon as one is indexed

export function setCollections(collections) {
  names = collections;
  updateScopes();
}

/** Fills the selection, and keeps the choice if it still exists. */
export function updateScopes() {
  const chosen = $("collection").value;
  const options = [["", "All collections"], ...names.map((name) => [name, name]), ...(addedStore() ? [[ADDED, "Added files"]] : [])];
  $("collection").replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
  const wanted = isAddedWanted && addedStore() ? ADDED : chosen;
  if (wanted === ADDED) isAddedWanted = false;
  $("collection").value = options.some(([value]) => value === wanted) ? wanted : "";
}

export function chooseAdded() {
  isAddedWanted = true;
}

/** Returns the field `rag` of a chat request. */
export function ragOptions() {
  const [chosen, store] = [$("collection").value, addedStore()];
  if (chosen && chosen !== ADDED) return { collections: [chosen] };
  if (!store) return {};
  return { vector_stores: [store], ...(chosen || !names.length ? {} : { collections: names }) };
}
