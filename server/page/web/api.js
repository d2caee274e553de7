// Requests to the server's API, with this tab's key if there is one.
import { askKey, key } from "./key.js";

const UNREACHABLE = "The server does not answer.";

/** Throws the error; one of the network in words of ours, since the browser's say little. */
const rethrow = (error) => { throw error instanceof TypeError ? new Error(UNREACHABLE) : error; };

/** Returns the response, whose status is below 400. Throws the server's error message, or `KeyNeeded`. */
export async function send(path, { body, form, signal, method, accept = "application/json" } = {}) {
  for (;;) {
    const sentKey = key();
    const headers = { Accept: accept };
    if (sentKey) headers.Authorization = `Bearer ${sentKey}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const content = form ?? (body === undefined ? undefined : JSON.stringify(body));
    const response = await fetch(path, { method: method ?? (content ? "POST" : "GET"), headers, signal, body: content }).catch(rethrow);
    if (response.ok) return response;
    if (response.status === 401) {
      if (sentKey === key()) await askKey();
      continue;
    }
    const problem = await response.json().catch(() => null);
    throw new Error(problem?.error?.message ?? `The server answered ${response.status}.`);
  }
}

/** Returns all items of a paged list. */
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

/** Yields the messages of an event stream as they arrive. */
export async function* events(path, options) {
  const response = await send(path, { ...options, accept: "text/event-stream" });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read().catch(rethrow);
    if (done) return;
    text += value;
    const frames = text.split(/\r?\n\r?\n/);
    text = frames.pop();
    for (const frame of frames) {
      const lines = frame.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      const data = lines.map((line) => line.slice(5).trimStart()).join("\n");
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}
