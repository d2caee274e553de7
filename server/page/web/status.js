// The third view: models, processes, and plots of /metrics since the view was opened.
import { get, send } from "./api.js";
import { $, bytes, count, el } from "./dom.js";

const POLL_MS = 2000;
const [MIN_POINTS, MAX_POINTS] = [20, 90]; // of a plot's width
const [WIDTH, HEIGHT] = [200, 50];
// Each plot: a function of the values now, those before, and the seconds between; null if nothing happened.
const PLOTS = [
  ["Tokens per second", (now, then, s) => since(now, then, "cloister_generated_tokens_total") / s],
  ["Time to first token, s", (now, then) => mean(now, then, "cloister_first_token_seconds")],
  ["Cache hit rate, %", (now, then) => part(now, then, "cloister_cached_prompt_tokens_total", "cloister_prompt_tokens_total")],
  ["Search latency, ms", (now, then) => mean(now, then, "cloister_search_seconds", "all", 1000)],
  ["Active requests", (now) => sum(now, "cloister_requests_running")],
  ["Queued requests", (now) => sum(now, "cloister_requests_waiting")],
  ["Index lag, s", (now) => sum(now, "cloister_index_lag_seconds")],
  ["Process restarts", (now) => sum(now, "cloister_process_restarts_total")],
];
const GROUNDED = /^cloister([/@]|$)/; // ids of grounded models
const series = PLOTS.map(() => []);

export async function enterStatus(signal, onSuccess) {
  let then = null;
  while (!signal.aborted) {
    const at = performance.now();
    const [text, { data }] = await Promise.all([
      send("/metrics", { signal, accept: "text/plain" }).then((response) => response.text()), get("/v1/models", { signal })]);
    const now = { at, values: parseMetrics(text) };
    PLOTS.forEach(([, figure], i) => {
      const value = figure(now.values, then?.values ?? now.values, then ? (at - then.at) / 1000 : 1);
      series[i].push(value ?? series[i].at(-1) ?? null);
      series[i].splice(0, series[i].length - MAX_POINTS);
    });
    show(now.values, data.filter(({ id }) => !GROUNDED.test(id)));
    onSuccess();
    then = now;
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, POLL_MS);
      signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
    });
  }
}

function parseMetrics(text) {
  return text.split("\n").filter((line) => line && !line.startsWith("#")).map((line) => {
    const [, name, labels, value] = /^([^\s{]+)(?:\{(.*)\})? (\S+)/.exec(line) ?? [];
    return { name, labels: Object.fromEntries([...(labels ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((m) => [m[1], m[2]])), value: Number(value) };
  });
}

const sum = (values, name, stage) =>
  values.filter((each) => each.name === name && (!stage || each.labels.stage === stage)).reduce((total, each) => total + each.value, 0);
const since = (now, then, name, stage) => Math.max(0, sum(now, name, stage) - sum(then, name, stage));
const ratio = (over, under) => (under ? over / under : null);
const mean = (now, then, name, stage, unit = 1) => ratio(unit * since(now, then, `${name}_sum`, stage), since(now, then, `${name}_count`, stage));
const part = (now, then, name, whole) => ratio(100 * since(now, then, name), since(now, then, whole));

function show(values, models) {
  $("plots").replaceChildren(...PLOTS.map(([title], i) => {
    const known = series[i].filter((value) => value !== null);
    return el("div", { class: "card" }, el("p", { class: "quiet" }, title), el("div", { class: "figure" }, format(series[i].at(-1)),
      known.length ? el("small", { class: "quiet" }, ` max ${format(Math.max(...known))}`) : null), plot(series[i], title));
  }));
  $("models").replaceChildren(el("table", {}, el("tr", {}, ...["Model", "State", "Context", "Memory"].map((name) => el("th", {}, name))),
    ...models.map((each) => el("tr", {}, el("td", {}, each.id), el("td", {}, each.state ?? ""),
      el("td", {}, each.context_length ? count(each.context_length) : ""), el("td", {}, each.memory ? bytes(each.memory) : "")))));
  const ready = values.filter((each) => each.name === "cloister_process_ready");
  $("processes").replaceChildren(el("ul", {}, ...ready.map((each) =>
    el("li", { class: each.value ? null : "bad" }, `${each.labels.process}: ${each.value ? "ready" : "not ready"}`))));
}

function format(value) {
  if (value === null) return "–";
  return value >= 100 || Number.isInteger(value) ? count(value) : value.toFixed(value < 1 ? 2 : 1);
}

/** Draws a plot with the newest point at the right. */
function plot(points, title) {
  const max = Math.max(...points, 1e-9);
  const step = WIDTH / (Math.max(MIN_POINTS, points.length) - 1);
  const x = (i) => (WIDTH - step * (points.length - 1 - i)).toFixed(1);
  const y = (value) => (HEIGHT - 2 - (HEIGHT - 4) * value / max).toFixed(1);
  const first = points.findIndex((value) => value !== null);
  const line = first < 0 ? [] : points.slice(first).map((value, i) => `${x(first + i)},${y(value)}`);
  const area = line.length ? [`${x(first)},${HEIGHT}`, ...line, `${WIDTH},${HEIGHT}`] : [];
  const label = `${title}: ${format(points.at(-1))} now`;
  return svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("polygon", { points: area.join(" "), fill: "currentColor", opacity: 0.15 }),
    svg("polyline", { points: line.join(" "), fill: "none", stroke: "currentColor", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" }));
}

function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
