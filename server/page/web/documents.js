// The files of a collection with their index states.
import { get, post } from "./api.js";
import { bytes, button, el } from "./dom.js";
import { openPassage } from "./passage.js";

const PAGE = 100;
const MAX_PAGE = 1000; // the server's limit
const STATES = { indexed: "Indexed", pending: "Queued", failed: "Failed" };

export class Documents {
  constructor(collection) {
    this.collection = collection;
    this.documents = [];
    this.numRequests = 0;
    const load = () => this.load();
    this.state = el("select", { "aria-label": "State", onchange: load },
      ...[["", "All files"], ...Object.entries(STATES)].map(([value, text]) => el("option", { value }, text)));
    this.pathFilter = el("input", { type: "search", "aria-label": "Filter by path", placeholder: "Filter by path", oninput: load });
    this.rows = el("tbody");
    this.more = button("More", () => this.loadMore(), { hidden: true });
    this.error = el("p", { class: "bad", role: "status" });
    this.box = el("details", { ontoggle: () => this.refresh() }, el("summary", {}, "Files"),
      el("div", { class: "row" }, this.state, this.pathFilter), this.error,
      el("div", { class: "scroll list", tabindex: 0, role: "region", "aria-label": `Files of ${collection}` }, el("table", {}, this.rows)), this.more);
  }

  /** Opens the list with the files in this state. */
  open(state) {
    this.state.value = state;
    this.box.open = true;
    this.load();
  }

  /** Loads the shown files again. */
  refresh() {
    if (this.box.open) this.load(Math.min(Math.max(PAGE, this.documents.length), MAX_PAGE));
  }

  load(limit = PAGE) {
    return this.fetchPage("", limit, () => []);
  }

  loadMore() {
    return this.fetchPage(this.documents.at(-1).path, PAGE, () => this.documents);
  }

  async fetchPage(after, limit, before) {
    const number = ++this.numRequests;
    const query = new URLSearchParams({ after, limit, contains: this.pathFilter.value, ...(this.state.value ? { state: this.state.value } : {}) });
    try {
      const page = await get(`/v1/collections/${encodeURIComponent(this.collection)}/documents?${query}`);
      if (number !== this.numRequests) return; // a newer request has replaced this one
      this.documents = [...before(), ...page.data];
      this.more.hidden = !page.has_more;
      this.error.textContent = this.documents.length ? "" : "No files.";
    } catch (error) {
      this.error.textContent = error.message;
    }
    this.show();
  }

  show() {
    const focused = this.rows.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.rows.replaceChildren(...this.documents.map((each) => this.row(each)));
    if (focused) [...this.rows.querySelectorAll("button")].find(({ dataset }) => dataset.key === focused)?.focus();
  }

  row(each) {
    const isOpen = each.chunks > 0;
    const name = isOpen ? button(each.path, () => openPassage(each), { class: "plain", dir: "auto", "data-key": `open ${each.id}` }) : el("span", { dir: "auto" }, each.path);
    const state = el("td", { class: each.state === "failed" ? "bad" : null }, [STATES[each.state], each.reason].filter(Boolean).join(": "));
    if (each.note) state.append(el("p", { class: "quiet" }, `Partly indexed: ${each.note}`));
    const retry = each.state === "failed" ? button("Retry", () => this.retry(each), { "aria-label": `Retry ${each.path}`, "data-key": `retry ${each.id}` }) : null;
    return el("tr", { "data-state": each.state }, el("td", {}, name), state, el("td", {}, bytes(each.bytes)), el("td", {}, retry));
  }

  async retry(document) {
    try {
      await post("/v1/index/rescan", { collection: this.collection, path: document.path });
      document.state = "pending";
      document.reason = null;
      this.show();
    } catch (error) {
      this.error.textContent = error.message;
    }
  }
}
