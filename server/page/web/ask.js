// The first view: a conversation with the documents.
import { loadAdded, onAdded, startAdding, whenAdded } from "./added.js";
import { events, get } from "./api.js";
import { Conversations } from "./conversations.js";
import { $, button, copy, count, el } from "./dom.js";
import { renderMarkdown } from "./markdown.js";
import { openPassage } from "./passage.js";
import { chooseAdded, ragOptions, setCollections, updateScopes } from "./scope.js";

const NEAR_PX = 80; // a reader farther from the end is not scrolled
const conversations = new Conversations();
const PLAIN = { class: "plain" };
let running = null; // AbortController of the answer in progress

export function startAsking() {
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("question").value.trim();
    if (!text || running) return;
    $("question").value = "";
    grow();
    ask(conversations.current?.leaf ?? null, text);
  });
  $("question").addEventListener("input", grow);
  $("question").addEventListener("keydown", (event) => {
    if (isSubmit(event, $("question"))) {
      event.preventDefault();
      $("ask").requestSubmit();
    }
  });
  $("stop").addEventListener("click", stop);
  $("new").addEventListener("click", () => choose(null));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && running && !document.querySelector("dialog[open]")) stop();
  });
  onAdded(updateScopes);
  startAdding(() => {
    location.hash = "ask";
    chooseAdded();
    $("question").focus();
  });
  show();
}

export async function enterAsking(signal, onSuccess) {
  $("question").focus();
  const { data } = await get("/v1/collections", { signal });
  setCollections(data.map(({ id }) => id));
  await loadAdded(signal);
  onSuccess();
}

const isSubmit = (event, box) => event.target === box && event.key === "Enter" && !event.shiftKey && !event.isComposing;
const stop = () => running?.abort();

function grow() {
  $("question").rows = Math.min(8, $("question").value.split("\n").length);
}

function choose(conversation) {
  stop();
  conversations.current = conversation;
  show();
  $("question").focus();
}

function ask(parent, content) {
  const question = conversations.add(parent, { role: "user", content });
  return answer(question);
}

async function answer(question) {
  const turns = conversations.path(question.id).filter((turn, at, path) => turn.content && path[at + 1]?.content !== ""); // without stopped questions
  const messages = turns.map(({ role, content }) => ({ role, content }));
  const turn = conversations.add(question.id, { role: "assistant", content: "", passages: [] });
  const controller = (running = new AbortController());
  const started = performance.now();
  $("announcement").textContent = "Answering";
  conversations.save();
  show();
  try {
    await whenAdded();
    controller.signal.throwIfAborted();
    const body = { model: "cloister", messages, stream: true, stream_options: { include_usage: true }, rag: ragOptions() };
    for await (const frame of events("/v1/chat/completions", { body, signal: controller.signal })) {
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
    if (running === controller) running = null;
    $("announcement").textContent = turn.error ? `Failed: ${turn.error}` : turn.stopped ? "Stopped" : `Answer: ${turn.content}`;
    conversations.save();
    show();
  }
}

function paint(turn) {
  const box = document.querySelector(`article[data-id="${turn.id}"] .text`);
  if (!box) return;
  const turns = $("turns");
  const isAtEnd = turns.scrollHeight - turns.scrollTop - turns.clientHeight < NEAR_PX;
  box.classList.toggle("wait", !turn.content);
  box.replaceChildren(renderMarkdown(turn.content, sourcesOf(turn), openPassage));
  if (isAtEnd) scrollToEnd();
}

function scrollToEnd() {
  $("turns").scrollTop = $("turns").scrollHeight;
}

const sourcesOf = (turn) => new Map((turn.passages ?? []).map((each) => [each.number, each]));

function show() {
  $("send").hidden = Boolean(running);
  $("stop").hidden = !running;
  $("conversations").replaceChildren(...conversations.all.map((each) => el("li", {},
    el("button", { type: "button", class: "plain", "aria-current": each === conversations.current ? "true" : null, onclick: () => choose(each) }, each.title),
    el("button", { type: "button", class: "plain", "aria-label": `Delete ${each.title}`, onclick: () => { stop(); conversations.remove(each); show(); } }, "×"))));
  const focused = $("turns").contains(document.activeElement) ? document.activeElement.closest("article") : null;
  const turns = conversations.current ? conversations.path() : [];
  if (turns.length) $("turns").replaceChildren(...turns.map(renderTurn));
  else $("turns").replaceChildren(el("div", { class: "empty" }, el("b", {}, "Ask your documents"),
    "Answers come from your own folders and name their sources. Nothing leaves this machine."));
  if (focused) (document.querySelector(`article[data-id="${focused.dataset.id}"] .row button:last-of-type`) ?? $("question")).focus();
  scrollToEnd();
}

function renderTurn(turn) {
  return turn.role === "user" ? renderQuestion(turn) : renderAnswer(turn);
}

function renderQuestion(turn) {
  return el("article", { class: "user", "data-id": turn.id, "aria-label": "You" },
    el("div", { class: "text", dir: "auto" }, turn.content),
    el("div", { class: "row" }, branches(turn), button("Edit", () => edit(turn), PLAIN)));
}

function renderAnswer(turn) {
  const isRunning = running && turn.id === conversations.current.leaf;
  const sources = sourcesOf(turn);
  const cited = new Set([...turn.content.matchAll(/\[(\d+)\]/g)].map((match) => Number(match[1])));
  const text = el("div", { class: isRunning && !turn.content ? "text wait" : "text", dir: "auto" });
  text.append(renderMarkdown(turn.content, sources, openPassage));
  const article = el("article", { class: "assistant", "data-id": turn.id, "aria-label": "Answer" }, text);
  if (turn.error) article.append(el("p", { class: "bad" }, turn.error));
  if (turn.stopped) article.append(el("p", { class: "quiet" }, "Stopped."));
  const citedSources = [...sources.values()].filter(({ number }) => cited.has(number));
  if (citedSources.length) {
    article.append(el("div", { class: "sources", role: "group", "aria-label": "Sources" }, ...citedSources.map((each) =>
      el("button", { type: "button", onclick: () => openPassage(each) }, `${each.number} · ${each.path}${each.place ? `, ${each.place}` : ""}`))));
  }
  if (!isRunning) {
    const again = conversations.current.turns[turn.parent];
    article.append(el("div", { class: "row" }, branches(turn), button("Ask again", () => running || answer(again), PLAIN),
      button("Copy", (event) => copy(turn.content, event.target), PLAIN), el("span", { class: "cost" }, describeUsage(turn))));
  }
  return article;
}

function describeUsage({ usage, firstS }) {
  if (!usage) return "";
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  const first = firstS === undefined ? "" : ` · time to first token ${firstS.toFixed(2)} s`;
  return `${count(usage.prompt_tokens)} prompt tokens, ${count(cached)} cached · ${count(usage.completion_tokens)} generated${first}`;
}

function branches(turn) {
  const all = conversations.siblings(turn);
  if (all.length < 2) return null;
  const at = all.findIndex(({ id }) => id === turn.id);
  const go = (to) => { if (!running) { conversations.selectBranch(all[to]); show(); } };
  return el("span", { class: "quiet" },
    el("button", { type: "button", class: "plain", "aria-label": "Previous version", disabled: at === 0, onclick: () => go(at - 1) }, "‹"),
    `${at + 1}/${all.length}`,
    el("button", { type: "button", class: "plain", "aria-label": "Next version", disabled: at === all.length - 1, onclick: () => go(at + 1) }, "›"));
}

function edit(turn) {
  if (running) return;
  const box = el("textarea", { "aria-label": "Edit the question", rows: 3, cols: 60 });
  box.value = turn.content;
  const form = el("form", { onsubmit: (event) => { event.preventDefault(); if (box.value.trim()) ask(turn.parent, box.value.trim()); } },
    box, el("div", { class: "row" }, el("button", { class: "main" }, "Ask"), button("Cancel", show, PLAIN)));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") show();
    else if (isSubmit(event, box)) form.requestSubmit();
    else return;
    event.preventDefault();
  });
  document.querySelector(`article[data-id="${turn.id}"]`).replaceChildren(form);
  box.focus();
}
