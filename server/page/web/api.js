// The server's API, with the key of this tab where there is one.
import { askKey, key } from "./key.js";

const AWAY = "The server does not answer.";

/** What fails; a browser's own words for a server that has gone say little. */
const gone = (error) => { throw error instanceof TypeError ? new Error(AWAY) : error; };

/** The response, with a status below 400. Throws what the server says is wrong, and `KeyNeeded`. */
export async function send(path, { body, form, signal, method, accept = "application/json" } = {}) {
  for (;;) {
    const mine = key();
    const headers = { Accept: accept };
    if (mine) headers.Authorization = `Bearer ${mine}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const content = form ?? (body === undefined ? undefined : JSON.stringify(body));
    const response = await fetch(path, { method: method ?? (content ? "POST" : "GET"), headers, signal, body: content }).catch(gone);
    if (response.ok) return response;
    if (response.status === 401) {
      if (mine === key()) await askKey();
      continue;
    }
    const told = await response.json().catch(() => null);
    throw new Error(told?.error?.message ?? `The server answered ${response.status}.`);
  }
}

/** All of a list that is told a page at a time. */
export async function list(path, options) {
  const all = [];
  for (let after = "";;) {
    const page = await get(`${path}?limit=100${after}`, options);
    all.push(...page.data);
    if (!page.has_more) return all;
    after = `&after=${page.last_id}`;
  }
}

export const get = async (path, options) => (await send(path, options)).json();
export const post = async (path, body, options) => (await send(path, { ...options, body })).json();
export const remove = async (path) => (await send(path, { method: "DELETE" })).json();

/** The frames of an event stream, as they come. */
export async function* events(path, options) {
  const response = await send(path, { ...options, accept: "text/event-stream" });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read().catch(gone);
    if (done) return;
    text += value;
    const frames = text.split(/\r?\n\r?\n/);
    text = frames.pop();
    for (const frame of frames) {
      const lines = frame.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      const told = lines.map((line) => line.slice(5).trimStart()).join("\n");
      if (told && told !== "[DONE]") yield JSON.parse(told);
    }
  }
}
