// The second view: the index state of every collection and file.
import { loadAdded } from "./added.js";
import { events, post } from "./api.js";
import { Documents } from "./documents.js";
import { $, button, bytes, duration, el, plural } from "./dom.js";
import { openPassage } from "./passage.js";

const ACTIVITIES = { idle: "Idle", scanning: "Scanning", indexing: "Indexing", embedding: "Embedding", paused: "Paused", waiting: "Waiting" };
const cards = new Map(); // by collection
let isPaused = false;

export function startLibrary() {
  $("pause").addEventListener("click", () => act(isPaused ? "/v1/index/resume" : "/v1/index/pause"));
  $("rescan").addEventListener("click", () => act("/v1/index/rescan"));
  $("explain").addEventListener("submit", async (event) => {
    event.preventDefault();
    const { query, path } = Object.fromEntries(new FormData($("explain")));
    try {
      const results = await post("/v1/search", { query, expect: path, explain: true });
      $("explanation").replaceChildren(...results.explanation.expected.map(renderExplanation));
    } catch (error) {
      $("explanation").replaceChildren(el("p", { class: "bad" }, error.message));
    }
  });
}

export async function enterLibrary(signal, onSuccess) {
  await loadAdded(signal);
  for await (const status of events("/v1/index/events", { signal })) {
    onSuccess();
    show(status);
  }
  throw new Error("The connection is lost; reconnecting.");
}

function show(status) {
  const pending = status.collections.reduce((sum, each) => sum + each.pending, 0);
  const known = status.collections.reduce((sum, each) => sum + each.documents, 0);
  const isUpToDate = status.lag_s <= 1;
  const parts = status.activity === "idle" && isUpToDate ? [] : [ACTIVITIES[status.activity]];
  if (status.current) parts.push(`${status.current.collection}/${status.current.path}`);
  if (pending) parts.push(`${plural(pending, "file")} queued`, `${status.files_per_s.toFixed(1)} files/s`);
  if (status.seconds_left !== null) parts.push(`about ${duration(status.seconds_left)} left`);
  parts.push(isUpToDate ? "Up to date" : `${duration(status.lag_s)} behind`);
  $("activity").textContent = parts.join(" · ");
  $("indexed").hidden = !pending;
  $("indexed").max = known + pending;
  $("indexed").value = known;
  $("index-error").textContent = status.error ?? "";
  isPaused = status.activity === "paused";
  $("pause").textContent = isPaused ? "Resume" : "Pause";
  const names = status.collections.map(({ name }) => name);
  for (const name of [...cards.keys()]) if (!names.includes(name)) cards.delete(name);
  for (const name of names) if (!cards.has(name)) cards.set(name, new Card(name));
  const boxes = names.map((name) => cards.get(name).box);
  if (boxes.some((box, at) => box !== $("collections").children[at]) || boxes.length !== $("collections").children.length) $("collections").replaceChildren(...boxes);
  for (const each of status.collections) cards.get(each.name).show(each);
}

async function act(path, body = {}) {
  $("action-error").textContent = "";
  try {
    await post(path, body);
  } catch (error) {
    $("action-error").textContent = error.message;
  }
}

/** The card of a collection. Its elements stay while it is indexed, so that focus and opened lists are not lost. */
class Card {
  constructor(name) {
    const rescan = (more) => act("/v1/index/rescan", { collection: name, ...more });
    this.documents = new Documents(name);
    this.state = el("div");
    this.failed = button("", () => this.documents.open("failed"), { class: "bad", hidden: true });
    this.missing = button("Delete missing files from the index", () => rescan({ accept_deletions: true }), { hidden: true });
    this.box = el("article", { class: "card" }, el("h2", {}, name), this.state,
      el("div", { class: "row" }, button("Rescan", () => rescan()), this.failed, this.missing), this.documents.box);
  }

  show(status) {
    const formatTime = (time) => new Date(1000 * time).toLocaleString();
    const lines = [
      ["quiet", status.root],
      [null, `${plural(status.documents, "document")}, ${bytes(status.bytes)} · ${plural(status.chunks, "passage")}`],
      ["quiet", [status.last_change ? `changed ${formatTime(status.last_change)}` : "no change yet", status.scanned_at ? `scanned ${formatTime(status.scanned_at)}` : null].filter(Boolean).join(" · ")],
      [null, status.pending ? `${plural(status.pending, "file")} queued, ${bytes(status.pending_bytes)}` : ""],
      ["bad", status.missing ? `${plural(status.missing, "document")} missing from the folder, kept in the index.` : ""],
      ["bad", status.error ?? ""],
    ];
    this.state.replaceChildren(...lines.filter(([, text]) => text).map(([name, text]) => el("p", { class: name }, text)));
    this.failed.hidden = !status.failed.length;
    this.failed.textContent = `${plural(status.failed.length, "file")} failed`;
    this.missing.hidden = !status.missing;
    const snapshot = JSON.stringify([status.documents, status.pending, status.failed.length, status.last_change, status.scanned_at]);
    if (snapshot !== this.snapshot) this.documents.refresh();
    this.snapshot = snapshot;
  }
}

function renderExplanation(file) {
  const ranks = [["dense", file.dense_rank], ["keywords", file.words_rank], ["fused", file.fused_rank], ["result", file.rank]];
  const known = ranks.filter(([, rank]) => rank !== null).map(([name, rank]) => `${name}: ${rank}`).join(" · ");
  return el("div", {}, el("p", {}, el("strong", {}, file.outcome.replaceAll("_", " ")), ` – ${file.reason}`),
    known ? el("p", { class: "quiet" }, `Rank ${known}`) : null,
    el("div", { class: "sources" }, ...file.instead.map((each) => el("button", { type: "button", onclick: () => openPassage(each) }, each.path))));
}
