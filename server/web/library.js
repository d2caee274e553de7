// The second view: what is indexed, what is not, and why.
import { events, post } from "./api.js";
import { $, bytes, count, duration, el } from "./dom.js";
import { openPassage } from "./passage.js";

export function startLibrary() {
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

export async function enterLibrary(signal) {
  for await (const status of events("/v1/index/events", { signal })) show(status);
}

function show(status) {
  const pending = status.collections.reduce((sum, each) => sum + each.pending, 0);
  const known = status.collections.reduce((sum, each) => sum + each.documents, 0);
  const isPaused = status.activity === "paused";
  const parts = [status.activity];
  if (status.current) parts.push(`${status.current.collection}/${status.current.path}`);
  if (pending) parts.push(`${count(pending)} files left`, `${status.files_per_s.toFixed(1)} files/s`);
  if (status.seconds_left !== null) parts.push(`about ${duration(status.seconds_left)} left`);
  parts.push(status.lag_s > 1 ? `behind the folders by ${duration(status.lag_s)}` : "equal to the folders");
  const act = (text, path) => el("button", { type: "button", onclick: () => change(path) }, text);
  $("activity").replaceChildren(el("div", { class: "card" }, el("p", {}, parts.join(" · ")),
    pending ? el("progress", { max: known + pending, value: known, "aria-label": "Indexed" }) : null,
    status.error ? el("p", { class: "bad" }, status.error) : null,
    el("div", { class: "row" }, isPaused ? act("Go on", "/v1/index/resume") : act("Pause", "/v1/index/pause"),
      act("Look again, and retry what failed", "/v1/index/rescan")), el("p", { class: "bad", id: "refused", role: "status" })));
  $("collections").replaceChildren(...status.collections.map(collection));
}

async function change(path) {
  try {
    await post(path, {});
  } catch (error) {
    $("refused").textContent = error.message;
  }
}

function collection(told) {
  const changed = told.last_change ? `changed ${new Date(1000 * told.last_change).toLocaleString()}` : "no change yet";
  return el("article", { class: "card" }, el("h2", {}, told.name), el("p", { class: "quiet" }, told.root),
    el("p", {}, `${count(told.documents)} documents, ${bytes(told.bytes)} · ${count(told.chunks)} passages · ${changed}`),
    told.pending ? el("p", {}, `${count(told.pending)} files wait, ${bytes(told.pending_bytes)}`) : null,
    told.missing ? el("p", { class: "bad" }, `${count(told.missing)} documents are kept although their files are gone.`) : null,
    told.error ? el("p", { class: "bad" }, told.error) : null,
    told.failed.length ? el("details", {}, el("summary", { class: "bad" }, `${count(told.failed.length)} files cannot be read`),
      el("table", {}, ...told.failed.map((each) => el("tr", {}, el("td", {}, each.path), el("td", {}, each.reason))))) : null);
}

function explained(file) {
  const ranks = [["by meaning", file.dense_rank], ["by words", file.words_rank], ["together", file.fused_rank], ["result", file.rank]];
  const known = ranks.filter(([, rank]) => rank !== null).map(([name, rank]) => `${name}: ${rank}`).join(" · ");
  return el("div", {}, el("p", {}, el("strong", {}, file.outcome.replaceAll("_", " ")), ` – ${file.reason}`),
    known ? el("p", { class: "quiet" }, `Place ${known}`) : null,
    el("div", { class: "sources" }, ...file.instead.map((each) => el("button", { type: "button", onclick: () => openPassage(each) }, each.path))));
}
