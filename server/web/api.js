// The server's API. A key is kept for this tab, and asked for when the server wants one.
import { $ } from "./dom.js";

let asking = null;

function askKey() {
  asking ??= new Promise((resolve) => {
    const dialog = $("key");
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("key", $("key-text").value.trim());
      $("key-text").value = "";
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

/** The response, with a status below 400; throws what the server says is wrong. */
export async function send(path, { body, signal, accept = "application/json" } = {}) {
  for (;;) {
    const key = sessionStorage.getItem("key");
    const headers = { Accept: accept };
    if (key) headers.Authorization = `Bearer ${key}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const method = body === undefined ? "GET" : "POST";
    const response = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
    if (response.ok) return response;
    if (response.status === 401) {
      await askKey();
      continue;
    }
    const told = await response.json().catch(() => null);
    throw new Error(told?.error?.message ?? `The server answered ${response.status}.`);
  }
}

export const get = async (path, options) => (await send(path, options)).json();
export const post = async (path, body, options) => (await send(path, { ...options, body })).json();

/** The frames of an event stream, as they come. */
export async function* events(path, options) {
  const response = await send(path, { ...options, accept: "text/event-stream" });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
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
