// An answer's Markdown as elements. Nothing of it runs or loads: no images, no styles, no forms.
import { button, copy, el } from "./dom.js";
import { Marked } from "./vendor/marked.js";

const TAGS = ["p", "br", "hr", "strong", "em", "del", "code", "pre", "blockquote", "ul", "ol", "li", "a",
  "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"];

// What would be HTML is text, and a picture its description.
const marked = new Marked({ async: false, renderer: { html: ({ text }) => escaped(text), image: ({ text }) => escaped(text) } });

/** `sources`: by number; `open` is called with the one whose chip is pressed. */
export function rendered(text, sources, open) {
  const html = marked.parse(text);
  const found = window.DOMPurify.sanitize(html, {
    ALLOWED_TAGS: TAGS, ALLOWED_ATTR: ["href"], ALLOWED_URI_REGEXP: /^https?:/i, RETURN_DOM_FRAGMENT: true,
  });
  for (const link of found.querySelectorAll("a")) {
    link.rel = "noopener noreferrer";
    link.target = "_blank";
  }
  for (const block of found.querySelectorAll("pre")) {
    const code = block.textContent;
    block.tabIndex = 0;
    block.append(button("Copy", (event) => copy(code, event.target), { class: "copy" }));
  }
  cite(found, sources, open);
  return found;
}

function cite(root, sources, open) {
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

function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
