// Elements, built without HTML, so that text stays text.
export const $ = (id) => document.getElementById(id);

export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const count = (number) => new Intl.NumberFormat().format(Math.round(number));

export const plural = (number, name) => `${count(number)} ${name}${number === 1 ? "" : "s"}`;

export function bytes(number) {
  const power = number > 0 ? Math.min(4, Math.floor(Math.log(number) / Math.log(1024))) : 0;
  return `${(number / 1024 ** power).toFixed(power ? 1 : 0)} ${["B", "KB", "MB", "GB", "TB"][power]}`;
}

export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export const button = (text, onclick, attributes = {}) => el("button", { type: "button", onclick, ...attributes }, text);

/** Copies the text, also if the browser denies its clipboard to pages without TLS. `from` is the pressed button. */
export async function copy(text, from) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const box = el("textarea", { class: "hidden", "aria-hidden": "true" });
    box.value = text;
    from.after(box);
    box.select();
    document.execCommand("copy");
    box.remove();
    from.focus();
  }
  const name = from.textContent;
  from.textContent = "Copied";
  setTimeout(() => { from.textContent = name; }, 1500);
}
