// The third view: models, processes, and plots of what /metrics says, from when the view is opened.
import { get, send } from "./api.js";
import { $, bytes, count, el } from "./dom.js";

const EVERY_MS = 2000;
const MOST = 90; // points of a plot
const PLOTS = [
  ["Tokens written each second", (now, then, s) => rate(now, then, s, "cloister_generated_tokens_total")],
  ["Answers under way", (now) => sum(now, "cloister_requests_running")],
  ["Answers that wait", (now) => sum(now, "cloister_requests_waiting")],
  ["Prompt tokens found in memory, %", (now) => share(now)],
  ["Index behind the folders, s", (now) => sum(now, "cloister_index_lag_seconds")],
  ["Processes started again", (now) => sum(now, "cloister_process_restarts_total")],
];
const series = PLOTS.map(() => []);

export async function enterStatus(signal, fine) {
  let then = null;
  while (!signal.aborted) {
    const at = performance.now();
    const [text, { data }] = await Promise.all([
      send("/metrics", { signal, accept: "text/plain" }).then((told) => told.text()), get("/v1/models", { signal })]);
    const now = { at, values: parsed(text) };
    PLOTS.forEach(([, figure], i) => {
      series[i].push(figure(now.values, then?.values ?? now.values, then ? (at - then.at) / 1000 : 1));
      series[i].splice(0, series[i].length - MOST);
    });
    show(now.values, data);
    fine();
    then = now;
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, EVERY_MS);
      signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
    });
  }
}

function parsed(text) {
  return text.split("\n").filter((line) => line && !line.startsWith("#")).map((line) => {
    const [, name, labels, value] = /^([^\s{]+)(?:\{(.*)\})? (\S+)/.exec(line) ?? [];
    return { name, labels: Object.fromEntries([...(labels ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((m) => [m[1], m[2]])), value: Number(value) };
  });
}

const sum = (values, name) => values.filter((each) => each.name === name).reduce((total, each) => total + each.value, 0);
const rate = (now, then, s, name) => Math.max(0, (sum(now, name) - sum(then, name)) / s);
const share = (now) => 100 * sum(now, "cloister_cached_prompt_tokens_total") / Math.max(1, sum(now, "cloister_prompt_tokens_total"));

function show(values, models) {
  $("plots").replaceChildren(...PLOTS.map(([title], i) => el("div", { class: "card" },
    el("p", { class: "quiet" }, title), el("div", { class: "figure" }, short(series[i].at(-1))), plot(series[i], title))));
  $("models").replaceChildren(el("table", {}, el("tr", {}, ...["Model", "State", "Context", "Memory"].map((name) => el("th", {}, name))),
    ...models.map((each) => el("tr", {}, el("td", {}, each.id), el("td", {}, each.state ?? ""),
      el("td", {}, each.context_length ? count(each.context_length) : ""), el("td", {}, each.memory ? bytes(each.memory) : "")))));
  const ready = values.filter((each) => each.name === "cloister_process_ready");
  $("processes").replaceChildren(el("ul", {}, ...ready.map((each) =>
    el("li", { class: each.value ? null : "bad" }, `${each.labels.process}: ${each.value ? "ready" : "not ready"}`))));
}

const short = (value) => (value >= 100 || Number.isInteger(value) ? count(value) : value.toFixed(1));

function plot(points, title) {
  const most = Math.max(...points, 1e-9);
  const [width, height] = [200, 50];
  const line = points.map((value, i) => `${(width * i / (MOST - 1)).toFixed(1)},${(height - 2 - (height - 4) * value / most).toFixed(1)}`);
  const name = "http://www.w3.org/2000/svg";
  const drawn = document.createElementNS(name, "svg");
  const attributes = { class: "plot", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${short(points.at(-1))} now, at most ${short(Math.max(...points))}` };
  for (const [key, value] of Object.entries(attributes)) drawn.setAttribute(key, value);
  const path = document.createElementNS(name, "polyline");
  for (const [key, value] of Object.entries({ points: line.join(" "), fill: "none", stroke: "currentColor", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" })) path.setAttribute(key, value);
  drawn.append(path);
  return drawn;
}
