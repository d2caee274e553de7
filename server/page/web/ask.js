// The first view: a conversation with the documents.
import { loadAdded, onAdded, startAdding, whenAdded } from "./added.js";
import { events, get } from "./api.js";
import { Conversations } from "./conversations.js";
import { $, button, copy, count, el } from "./dom.js";
import { rendered } from "./markdown.js";
import { openPassage } from "./passage.js";
import { chooseAdded, offer, offerCollections, scope } from "./scope.js";

const NEAR_PX = 80; // who is farther from the end reads something else
const talks = new Conversations();
const PLAIN = { class: "plain" };
let running = null; // the AbortController of the answer under way

export function startAsking() {
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("question").value.trim();
    if (!text || running) return;
    $("question").value = "";
    grow();
    ask(talks.current?.leaf ?? null, text);
  });
  $("question").addEventListener("input", grow);
  $("question").addEventListener("keydown", (event) => {
    if (isSent(event, $("question"))) {
      event.preventDefault();
      $("ask").requestSubmit();
    }
  });
  $("stop").addEventListener("click", stop);
  $("new").addEventListener("click", () => choose(null));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && running && !document.querySelector("dialog[open]")) stop();
  });
  onAdded(offer);
  startAdding(() => {
    location.hash = "ask";
    chooseAdded();
    $("question").focus();
  });
  show();
}

export async function enterAsking(signal, fine) {
  $("question").focus();
  const { data } = await get("/v1/collections", { signal });
  offerCollections(data.map(({ id }) => id));
  await loadAdded(signal);
  fine();
}

const isSent = (event, box) => event.target === box && event.key === "Enter" && !event.shiftKey && !event.isComposing;
const stop = () => running?.abort();

function grow() {
  $("question").rows = Math.min(8, $("question").value.split("\n").length);
}

function choose(conversation) {
  stop();
  talks.current = conversation;
  show();
  $("question").focus();
}

function ask(parent, content) {
  const question = talks.add(parent, { role: "user", content });
  return answer(question);
}

async function answer(question) {
  const told = talks.path(question.id).filter((turn, at, path) => turn.content && path[at + 1]?.content !== ""); // no question that was stopped
  const messages = told.map(({ role, content }) => ({ role, content }));
  const turn = talks.add(question.id, { role: "assistant", content: "", passages: [] });
  const mine = (running = new AbortController());
  const started = performance.now();
  $("told").textContent = "Answering";
  talks.save();
  show();
  try {
    await whenAdded();
    mine.signal.throwIfAborted();
    const body = { model: "cloister", messages, stream: true, stream_options: { include_usage: true }, rag: scope() };
    for await (const frame of events("/v1/chat/completions", { body, signal: mine.signal })) {
      if (frame.error) throw new Error(frame.error.message);
      const delta = frame.choices?.[0]?.delta?.content;
      if (delta) {
        turn.firstS ??= (performance.now() - started) / 1000;
        turn.content += delta;
      }
      if (frame.rag) turn.passages = frame.rag.passages.map(({ number, path, place, url }) => ({ number, path, place, url }));
      if (frame.usage) turn.usage = frame.usage;
      paint(turn);
    }
  } catch (error) {
    if (error.name === "AbortError") turn.stopped = true;
    else turn.error = error.message;
  } finally {
    if (running === mine) running = null;
    $("told").textContent = turn.error ? `Failed: ${turn.error}` : turn.stopped ? "Stopped" : `Answer: ${turn.content}`;
    talks.save();
    show();
  }
}

function paint(turn) {
  const box = document.querySelector(`article[data-id="${turn.id}"] .text`);
  if (!box) return;
  const turns = $("turns");
  const isAtEnd = turns.scrollHeight - turns.scrollTop - turns.clientHeight < NEAR_PX;
  box.classList.toggle("wait", !turn.content);
  box.replaceChildren(rendered(turn.content, sourcesOf(turn), openPassage));
  if (isAtEnd) toEnd();
}

function toEnd() {
  $("turns").scrollTop = $("turns").scrollHeight;
}

const sourcesOf = (turn) => new Map((turn.passages ?? []).map((each) => [each.number, each]));

function show() {
  $("send").hidden = Boolean(running);
  $("stop").hidden = !running;
  $("conversations").replaceChildren(...talks.all.map((each) => el("li", {},
    el("button", { type: "button", class: "plain", "aria-current": each === talks.current ? "true" : null, onclick: () => choose(each) }, each.title),
    el("button", { type: "button", class: "plain", "aria-label": `Forget ${each.title}`, onclick: () => { stop(); talks.remove(each); show(); } }, "×"))));
  const focused = $("turns").contains(document.activeElement) ? document.activeElement.closest("article") : null;
  const turns = talks.current ? talks.path() : [];
  if (turns.length) $("turns").replaceChildren(...turns.map(turnOf));
  else $("turns").replaceChildren(el("div", { class: "empty" }, el("b", {}, "Ask your documents"),
    "Answers come from your own folders, with their sources. Nothing leaves this machine."));
  if (focused) (document.querySelector(`article[data-id="${focused.dataset.id}"] .row button:last-of-type`) ?? $("question")).focus();
  toEnd();
}

function turnOf(turn) {
  return turn.role === "user" ? questionOf(turn) : answerOf(turn);
}

function questionOf(turn) {
  return el("article", { class: "user", "data-id": turn.id, "aria-label": "You" },
    el("div", { class: "text", dir: "auto" }, turn.content),
    el("div", { class: "row" }, branches(turn), button("Edit", () => edit(turn), PLAIN)));
}

function answerOf(turn) {
  const isRunning = running && turn.id === talks.current.leaf;
  const sources = sourcesOf(turn);
  const cited = new Set([...turn.content.matchAll(/\[(\d+)\]/g)].map((found) => Number(found[1])));
  const text = el("div", { class: isRunning && !turn.content ? "text wait" : "text", dir: "auto" });
  text.append(rendered(turn.content, sources, openPassage));
  const article = el("article", { class: "assistant", "data-id": turn.id, "aria-label": "Answer" }, text);
  if (turn.error) article.append(el("p", { class: "bad" }, turn.error));
  if (turn.stopped) article.append(el("p", { class: "quiet" }, "Stopped."));
  const listed = [...sources.values()].filter(({ number }) => cited.has(number));
  if (listed.length) {
    article.append(el("div", { class: "sources", role: "group", "aria-label": "Sources" }, ...listed.map((each) =>
      el("button", { type: "button", onclick: () => openPassage(each) }, `${each.number} · ${each.path}${each.place ? `, ${each.place}` : ""}`))));
  }
  if (!isRunning) {
    const again = talks.current.turns[turn.parent];
    article.append(el("div", { class: "row" }, branches(turn), button("Ask again", () => running || answer(again), PLAIN),
      button("Copy", (event) => copy(turn.content, event.target), PLAIN), el("span", { class: "cost" }, costOf(turn))));
  }
  return article;
}

function costOf({ usage, firstS }) {
  if (!usage) return "";
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  const first = firstS === undefined ? "" : ` · first token after ${firstS.toFixed(2)} s`;
  return `${count(usage.prompt_tokens)} tokens read, ${count(cached)} of them cached · ${count(usage.completion_tokens)} written${first}`;
}

function branches(turn) {
  const all = talks.siblings(turn);
  if (all.length < 2) return null;
  const at = all.findIndex(({ id }) => id === turn.id);
  const go = (to) => { if (!running) { talks.turnTo(all[to]); show(); } };
  return el("span", { class: "quiet" },
    el("button", { type: "button", class: "plain", "aria-label": "Branch before", disabled: at === 0, onclick: () => go(at - 1) }, "‹"),
    `${at + 1}/${all.length}`,
    el("button", { type: "button", class: "plain", "aria-label": "Branch after", disabled: at === all.length - 1, onclick: () => go(at + 1) }, "›"));
}

function edit(turn) {
  if (running) return;
  const box = el("textarea", { "aria-label": "Edit the question", rows: 3, cols: 60 });
  box.value = turn.content;
  const form = el("form", { onsubmit: (event) => { event.preventDefault(); if (box.value.trim()) ask(turn.parent, box.value.trim()); } },
    box, el("div", { class: "row" }, el("button", { class: "main" }, "Ask"), button("Cancel", show, PLAIN)));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") show();
    else if (isSent(event, box)) form.requestSubmit();
    else return;
    event.preventDefault();
  });
  document.querySelector(`article[data-id="${turn.id}"]`).replaceChildren(form);
  box.focus();
}
