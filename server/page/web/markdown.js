// Renders an answer's Markdown as elements that neither run nor load anything: no images, styles or forms.
import { button, copy, el } from "./dom.js";
import { Marked } from "./vendor/marked.js";

const TAGS = ["p", "br", "hr", "strong", "em", "del", "code", "pre", "blockquote", "ul", "ol", "li", "a",
  "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"];

// HTML becomes text, and an image its description.
const marked = new Marked({ async: false, renderer: { html: ({ text }) => escapeHtml(text), image: ({ text }) => escapeHtml(text) } });

/** Returns the elements. `sources` are by number; `open` is called with the source whose chip is pressed. */
export function renderMarkdown(text, sources, open) {
  const html = marked.parse(text);
  const content = window.DOMPurify.sanitize(html, {
    ALLOWED_TAGS: TAGS, ALLOWED_ATTR: ["href"], ALLOWED_URI_REGEXP: /^https?:/i, RETURN_DOM_FRAGMENT: true,
  });
  for (const link of content.querySelectorAll("a")) {
    link.rel = "noopener noreferrer";
    link.target = "_blank";
  }
  for (const block of content.querySelectorAll("pre")) {
    const code = block.textContent;
    block.tabIndex = 0;
    block.append(button("Copy", (event) => copy(code, event.target), { class: "copy" }));
  }
  addChips(content, sources, open);
  return content;
}

function addChips(root, sources, open) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) texts.push(walker.currentNode);
  for (const node of texts) {
    if (node.parentElement?.closest("code, pre, a")) continue;
    const parts = node.data.split(/\[(\d+)\]/);
    if (parts.length === 1) continue;
    node.replaceWith(...parts.map((part, at) => {
      if (at % 2 === 0) return part;
      const source = sources.get(Number(part));
      return source ? chip(source, open) : `[${part}]`;
    }));
  }
}

function chip(source, open) {
  const label = `Source ${source.number}: ${source.path}`;
  return el("button", { type: "button", class: "chip", "aria-label": label, title: source.path, onclick: () => open(source) }, String(source.number));
}

function escapeHtml(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
