// Shows a cited passage in its document.
import { send } from "./api.js";
import { $, el } from "./dom.js";

export async function openPassage(source) {
  const { pathname, search, hash } = new URL(source.url, window.location.href);
  await show(pathname + search, hash, source.path);
  if (!$("passage").open) $("passage").showModal();
}

async function show(address, hash, title) {
  const box = $("passage-text");
  $("passage-title").textContent = title;
  try {
    const text = await (await send(address, { accept: "text/html" })).text();
    const unstyled = text.replace(/<style>[^<]*<\/style>/, ""); // the viewer's stylesheet, which the page does not use
    const page = new DOMParser().parseFromString(unstyled, "text/html");
    const chosen = hash ? page.getElementById(hash.slice(1)) : null;
    box.replaceChildren(...[...page.querySelectorAll("section")].map((section) => {
      const isCited = section.classList.contains("cited") || section === chosen;
      const [location, content] = [section.querySelector("small"), section.querySelector("pre")];
      return el("section", { class: isCited ? "cited" : null },
        el("small", {}, location?.textContent ?? ""), el("pre", { dir: "auto" }, content?.textContent ?? ""));
    }));
    requestAnimationFrame(() => box.querySelector(".cited")?.scrollIntoView({ block: "center" }));
  } catch (error) {
    box.replaceChildren(el("p", { class: "bad" }, error.message));
  }
}
