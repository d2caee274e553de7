// The files of a collection, and what became of each.
import { get, post } from "./api.js";
import { bytes, button, el } from "./dom.js";
import { openPassage } from "./passage.js";

const PAGE = 100;
const MOST = 1000; // of one answer
const WORDS = { indexed: "can be found", pending: "waits to be read", failed: "cannot be read" };

export class Documents {
  constructor(collection) {
    this.collection = collection;
    this.found = [];
    this.asked = 0;
    const load = () => this.load();
    this.state = el("select", { "aria-label": "State", onchange: load },
      ...[["", "All files"], ["indexed", "Found"], ["pending", "Waiting"], ["failed", "Not read"]].map(([value, text]) => el("option", { value }, text)));
    this.part = el("input", { type: "search", "aria-label": "Part of the path", placeholder: "part of the path", oninput: load });
    this.rows = el("tbody");
    this.more = button("More", () => this.loadMore(), { hidden: true });
    this.wrong = el("p", { class: "bad", role: "status" });
    this.box = el("details", { ontoggle: () => this.refresh() }, el("summary", {}, "Files"),
      el("div", { class: "row" }, this.state, this.part), this.wrong,
      el("div", { class: "scroll list", tabindex: 0, role: "region", "aria-label": `Files of ${collection}` }, el("table", {}, this.rows)), this.more);
  }

  /** Those in this state, opened. */
  open(state) {
    this.state.value = state;
    this.box.open = true;
    this.load();
  }

  /** As they are now, as many as are shown. */
  refresh() {
    if (this.box.open) this.load(Math.min(Math.max(PAGE, this.found.length), MOST));
  }

  load(limit = PAGE) {
    return this.ask("", limit, () => []);
  }

  loadMore() {
    return this.ask(this.found.at(-1).path, PAGE, () => this.found);
  }

  async ask(after, limit, before) {
    const mine = ++this.asked;
    const asked = new URLSearchParams({ after, limit, contains: this.part.value, ...(this.state.value ? { state: this.state.value } : {}) });
    try {
      const page = await get(`/v1/collections/${encodeURIComponent(this.collection)}/documents?${asked}`);
      if (mine !== this.asked) return; // another question came meanwhile
      this.found = [...before(), ...page.data];
      this.more.hidden = !page.has_more;
      this.wrong.textContent = this.found.length ? "" : "There are none.";
    } catch (error) {
      this.wrong.textContent = error.message;
    }
    this.show();
  }

  show() {
    const focused = this.rows.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.rows.replaceChildren(...this.found.map((each) => this.row(each)));
    if (focused) [...this.rows.querySelectorAll("button")].find(({ dataset }) => dataset.key === focused)?.focus();
  }

  row(each) {
    const isOpen = each.chunks > 0;
    const name = isOpen ? button(each.path, () => openPassage(each), { class: "plain", dir: "auto", "data-key": `open ${each.id}` }) : el("span", { dir: "auto" }, each.path);
    const state = el("td", { class: each.state === "failed" ? "bad" : null }, [WORDS[each.state], each.reason].filter(Boolean).join(": "));
    if (each.note) state.append(el("p", { class: "quiet" }, `Not all of it: ${each.note}`));
    const again = each.state === "failed" ? button("Retry", () => this.retry(each), { "aria-label": `Retry ${each.path}`, "data-key": `retry ${each.id}` }) : null;
    return el("tr", { "data-state": each.state }, el("td", {}, name), state, el("td", {}, bytes(each.bytes)), el("td", {}, again));
  }

  async retry(document) {
    try {
      await post("/v1/index/rescan", { collection: this.collection, path: document.path });
      document.state = "pending";
      document.reason = null;
      this.show();
    } catch (error) {
      this.wrong.textContent = error.message;
    }
  }
}
