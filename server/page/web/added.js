// Files that people bring to the page. The server keeps them in a vector store, which is asked beside the folders.
import { get, list, post, remove, send } from "./api.js";
import { $, bytes, button, el } from "./dom.js";

const MARK = "page"; // of the store's metadata: this one, among those of other clients
const LOOK_MS = 300; // between two looks at what is being read
const WORDS = { sending: "is being sent", reading: "is being read", failed: "cannot be asked about" };

let store = null; // its id, once there is one
let files = []; // { id, name, size, state, reason, isNew }: `sending`, `reading`, `ready` or `failed`
let [looking, sent] = [null, Promise.resolve()]; // what is under way
const listeners = [];

export const onAdded = (listener) => listeners.push(listener);

/** The store's id where there is something in it to ask. */
export const addedStore = () => (files.some(({ state }) => state === "ready") ? store : null);

/** When no file is under way any more. */
export async function whenAdded() {
  while (isUnderWay()) await later();
}

const isUnderWay = () => files.some(({ state }) => state === "sending" || state === "reading");
const later = () => new Promise((resolve) => setTimeout(resolve, LOOK_MS));

export function startAdding(onFiles) {
  const add = (list) => {
    if (list.length) onFiles();
    for (const each of list) addFile(each);
  };
  $("add").addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", () => {
    add([...$("files").files]);
    $("files").value = "";
  });
  const isFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!isFiles(event)) return;
    event.preventDefault();
    $("drop").hidden = false;
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
  document.addEventListener("drop", (event) => {
    if (!isFiles(event)) return;
    event.preventDefault();
    $("drop").hidden = true;
    const isFolder = new Set([...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry?.isDirectory).map(({ name }) => name));
    add([...event.dataTransfer.files].map((file) => (isFolder.has(file.name) ? { name: file.name, size: 0, isFolder: true } : file)));
  });
}

/** What is in the store already, whoever brought it. */
export async function loadAdded(signal) {
  store = await found(signal);
  const known = store ? await list(`/v1/vector_stores/${store}/files`, { signal }) : [];
  const kept = new Map(files.map((each) => [each.id, each]));
  const unsent = files.filter(({ id, state }) => !id || state === "sending");
  files = [...unsent, ...known.filter(({ id }) => !unsent.some((each) => each.id === id)).map((told) =>
    Object.assign(kept.get(told.id) ?? { id: told.id, name: told.attributes.name ?? told.id, size: told.usage_bytes }, stateOf(told)))];
  show();
  look();
}

async function found(signal) {
  const stores = await list("/v1/vector_stores", { signal });
  return stores.find(({ metadata, status }) => metadata.made_by === MARK && status !== "expired")?.id ?? null;
}

const stateOf = ({ status, last_error }) =>
  ({ state: { completed: "ready", in_progress: "reading" }[status] ?? "failed", reason: last_error?.message ?? "" });

function addFile(file) {
  const mine = { id: null, name: file.name, size: file.size, state: "sending", reason: "", isNew: true };
  files.unshift(mine);
  show();
  sent = sent.then(() => sendFile(file, mine));
}

async function sendFile(file, mine) {
  try {
    if (file.isFolder) throw new Error("It is a folder; the server watches those that its settings name.");
    const form = new FormData();
    form.append("purpose", "assistants");
    form.append("file", file);
    mine.id = (await (await send("/v1/files", { form })).json()).id;
    store ??= (await found()) ?? (await post("/v1/vector_stores", { name: "Added on the page", metadata: { made_by: MARK } })).id;
    await post(`/v1/vector_stores/${store}/files`, { file_id: mine.id, attributes: { name: file.name.slice(0, 512) } });
    mine.state = "reading";
  } catch (error) {
    Object.assign(mine, { state: "failed", reason: error.message });
  }
  show();
  look();
}

/** Follows what is being read, one at a time whoever asks. */
function look() {
  looking ??= follow().finally(() => { looking = null; });
}

async function follow() {
  for (let reading; (reading = files.filter(({ state }) => state === "reading")).length;) {
    for (const each of reading) {
      try {
        Object.assign(each, stateOf(await get(`/v1/vector_stores/${store}/files/${each.id}`)));
      } catch (error) {
        Object.assign(each, { state: "failed", reason: error.message });
      }
    }
    show();
    await later();
  }
}

async function forget(file) {
  try {
    if (file.id) await remove(`/v1/files/${file.id}`);
    files = files.filter((each) => each !== file);
  } catch (error) {
    file.reason = error.message;
  }
  show();
}

function show() {
  $("added").replaceChildren(...files.filter(({ isNew }) => isNew).map((each) => el("li", { class: each.state === "failed" ? "bad" : null, "data-state": each.state },
    el("span", { dir: "auto" }, each.name), told(each), button("×", () => forget(each), { class: "plain", "aria-label": `Remove ${each.name}` }))));
  $("kept").hidden = !files.length;
  $("kept-files").replaceChildren(...files.map((each) => el("tr", {}, el("td", { dir: "auto" }, each.name), el("td", {}, told(each) || "can be asked about"),
    el("td", {}, bytes(each.size)), el("td", {}, button("Remove", () => forget(each), { "aria-label": `Remove ${each.name}` })))));
  for (const listener of listeners) listener();
}

const told = ({ state, reason }) => [WORDS[state], reason].filter(Boolean).join(": ");
