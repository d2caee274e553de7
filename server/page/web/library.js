// The second view: what is indexed, what is not, and why.
import { loadAdded } from "./added.js";
import { events, post } from "./api.js";
import { Documents } from "./documents.js";
import { $, button, bytes, counted, duration, el } from "./dom.js";
import { openPassage } from "./passage.js";

const cards = new Map(); // by collection
let isPaused = false;

export function startLibrary() {
  $("pause").addEventListener("click", () => change(isPaused ? "/v1/index/resume" : "/v1/index/pause"));
  $("rescan").addEventListener("click", () => change("/v1/index/rescan"));
  $("explain").addEventListener("submit", async (event) => {
    event.preventDefault();
    const { query, path } = Object.fromEntries(new FormData($("explain")));
    try {
      const told = await post("/v1/search", { query, expect: path, explain: true });
      $("explanation").replaceChildren(...told.explanation.expected.map(explained));
    } catch (error) {
      $("explanation").replaceChildren(el("p", { class: "bad" }, error.message));
    }
  });
}

export async function enterLibrary(signal, fine) {
  await loadAdded(signal);
  for await (const status of events("/v1/index/events", { signal })) {
    fine();
    show(status);
  }
  throw new Error("The server has gone; looking for it.");
}

function show(status) {
  const pending = status.collections.reduce((sum, each) => sum + each.pending, 0);
  const known = status.collections.reduce((sum, each) => sum + each.documents, 0);
  const parts = [status.activity];
  if (status.current) parts.push(`${status.current.collection}/${status.current.path}`);
  if (pending) parts.push(`${counted(pending, "file")} left`, `${status.files_per_s.toFixed(1)} files/s`);
  if (status.seconds_left !== null) parts.push(`about ${duration(status.seconds_left)} left`);
  parts.push(status.lag_s > 1 ? `behind the folders by ${duration(status.lag_s)}` : "equal to the folders");
  $("activity").textContent = parts.join(" · ");
  $("indexed").hidden = !pending;
  $("indexed").max = known + pending;
  $("indexed").value = known;
  $("trouble").textContent = status.error ?? "";
  isPaused = status.activity === "paused";
  $("pause").textContent = isPaused ? "Go on" : "Pause";
  const names = status.collections.map(({ name }) => name);
  for (const name of [...cards.keys()]) if (!names.includes(name)) cards.delete(name);
  for (const name of names) if (!cards.has(name)) cards.set(name, new Card(name));
  const boxes = names.map((name) => cards.get(name).box);
  if (boxes.some((box, at) => box !== $("collections").children[at]) || boxes.length !== $("collections").children.length) $("collections").replaceChildren(...boxes);
  for (const each of status.collections) cards.get(each.name).show(each);
}

async function change(path, body = {}) {
  $("refused").textContent = "";
  try {
    await post(path, body);
  } catch (error) {
    $("refused").textContent = error.message;
  }
}

/** A collection. Its elements stay, so that nothing that is open or has the focus is lost while it is indexed. */
class Card {
  constructor(name) {
    const rescan = (more) => change("/v1/index/rescan", { collection: name, ...more });
    this.documents = new Documents(name);
    this.state = el("div");
    this.failed = button("", () => this.documents.open("failed"), { class: "bad", hidden: true });
    this.missing = button("They are gone for good", () => rescan({ accept_deletions: true }), { hidden: true });
    this.box = el("article", { class: "card" }, el("h2", {}, name), this.state,
      el("div", { class: "row" }, button("Look again", () => rescan()), this.failed, this.missing), this.documents.box);
  }

  show(told) {
    const at = (time) => new Date(1000 * time).toLocaleString();
    const lines = [
      ["quiet", told.root],
      [null, `${counted(told.documents, "document")}, ${bytes(told.bytes)} · ${counted(told.chunks, "passage")}`],
      ["quiet", [told.last_change ? `changed ${at(told.last_change)}` : "no change yet", told.scanned_at ? `compared with the folder ${at(told.scanned_at)}` : null].filter(Boolean).join(" · ")],
      [null, told.pending ? `${counted(told.pending, "file")} to be read, ${bytes(told.pending_bytes)}` : ""],
      ["bad", told.missing ? `Kept although gone from the folder: ${counted(told.missing, "document")}.` : ""],
      ["bad", told.error ?? ""],
    ];
    this.state.replaceChildren(...lines.filter(([, text]) => text).map(([name, text]) => el("p", { class: name }, text)));
    this.failed.hidden = !told.failed.length;
    this.failed.textContent = `${counted(told.failed.length, "file")} not read`;
    this.missing.hidden = !told.missing;
    const now = JSON.stringify([told.documents, told.pending, told.failed.length, told.last_change, told.scanned_at]);
    if (now !== this.now) this.documents.refresh();
    this.now = now;
  }
}

function explained(file) {
  const ranks = [["by meaning", file.dense_rank], ["by words", file.words_rank], ["together", file.fused_rank], ["result", file.rank]];
  const known = ranks.filter(([, rank]) => rank !== null).map(([name, rank]) => `${name}: ${rank}`).join(" · ");
  return el("div", {}, el("p", {}, el("strong", {}, file.outcome.replaceAll("_", " ")), ` – ${file.reason}`),
    known ? el("p", { class: "quiet" }, `Place ${known}`) : null,
    el("div", { class: "sources" }, ...file.instead.map((each) => el("button", { type: "button", onclick: () => openPassage(each) }, each.path))));
}
