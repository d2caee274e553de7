// Files that people add on the page. The server keeps them in a vector store, which is searched beside the folders.
import { get, list, post, remove, send } from "./api.js";
import { $, bytes, button, el } from "./dom.js";

const MARK = "page"; // metadata that tells the page's store from those of other clients
const POLL_MS = 300; // while files are being indexed
const STATES = { sending: "Uploading", reading: "Indexing", ready: "Indexed", failed: "Failed" };

let store = null; // id of the vector store, once there is one
let files = []; // { id, name, size, state, reason, isNew }: `sending`, `reading`, `ready` or `failed`
let [polling, uploads] = [null, Promise.resolve()]; // tasks in progress
const listeners = [];

export const onAdded = (listener) => listeners.push(listener);

/** The id of the vector store, if one of its files is indexed; else null. */
export const addedStore = () => (files.some(({ state }) => state === "ready") ? store : null);

/** Resolves when no file is being uploaded or indexed any more. */
export async function whenAdded() {
  while (isInProgress()) await pause();
}

const isInProgress = () => files.some(({ state }) => state === "sending" || state === "reading");
const pause = () => new Promise((resolve) => setTimeout(resolve, POLL_MS));

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

/** Loads the files that are in the vector store, whoever added them. */
export async function loadAdded(signal) {
  store = await findStore(signal);
  const stored = store ? await list(`/v1/vector_stores/${store}/files`, { signal }) : [];
  const byId = new Map(files.map((each) => [each.id, each]));
  const unsent = files.filter(({ id, state }) => !id || state === "sending");
  files = [...unsent, ...stored.filter(({ id }) => !unsent.some((each) => each.id === id)).map((file) =>
    Object.assign(byId.get(file.id) ?? { id: file.id, name: file.attributes.name ?? file.id, size: file.usage_bytes }, stateOf(file)))];
  show();
  poll();
}

async function findStore(signal) {
  const stores = await list("/v1/vector_stores", { signal });
  return stores.find(({ metadata, status }) => metadata.made_by === MARK && status !== "expired")?.id ?? null;
}

const stateOf = ({ status, last_error }) =>
  ({ state: { completed: "ready", in_progress: "reading" }[status] ?? "failed", reason: last_error?.message ?? "" });

function addFile(file) {
  const added = { id: null, name: file.name, size: file.size, state: "sending", reason: "", isNew: true };
  files.unshift(added);
  show();
  uploads = uploads.then(() => upload(file, added));
}

async function upload(file, added) {
  try {
    if (file.isFolder) throw new Error("Folders cannot be added here; add the folder to the server's settings.");
    const form = new FormData();
    form.append("purpose", "assistants");
    form.append("file", file);
    added.id = (await (await send("/v1/files", { form })).json()).id;
    store ??= (await findStore()) ?? (await post("/v1/vector_stores", { name: "Added on the page", metadata: { made_by: MARK } })).id;
    await post(`/v1/vector_stores/${store}/files`, { file_id: added.id, attributes: { name: file.name.slice(0, 512) } });
    added.state = "reading";
  } catch (error) {
    Object.assign(added, { state: "failed", reason: error.message });
  }
  show();
  poll();
}

/** Starts polling the files that are being indexed, unless it runs already. */
function poll() {
  polling ??= pollFiles().finally(() => { polling = null; });
}

async function pollFiles() {
  for (let reading; (reading = files.filter(({ state }) => state === "reading")).length;) {
    for (const each of reading) {
      try {
        Object.assign(each, stateOf(await get(`/v1/vector_stores/${store}/files/${each.id}`)));
      } catch (error) {
        Object.assign(each, { state: "failed", reason: error.message });
      }
    }
    show();
    await pause();
  }
}

async function removeFile(file) {
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
    el("span", { dir: "auto" }, each.name), describeState(each), button("×", () => removeFile(each), { class: "plain", "aria-label": `Remove ${each.name}` }))));
  $("added-list").hidden = !files.length;
  $("added-files").replaceChildren(...files.map((each) => el("tr", {}, el("td", { dir: "auto" }, each.name), el("td", {}, describeState(each)),
    el("td", {}, bytes(each.size)), el("td", {}, button("Remove", () => removeFile(each), { "aria-label": `Remove ${each.name}` })))));
  for (const listener of listeners) listener();
}

const describeState = ({ state, reason }) => [STATES[state], reason].filter(Boolean).join(": ");
