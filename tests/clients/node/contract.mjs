// The openai package of npm against a server: `node contract.mjs http://127.0.0.1:8000`. Ends with 1 when it does not hold.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const chat = client.chat.completions;
const messages = [{ role: "user", content: "How long is parental leave?" }];
const sentence = "Parental leave is sixteen weeks with full pay.";
const parameters = {
  type: "object",
  properties: { kind: { enum: ["parental", "sick"] } },
  required: ["kind"],
  additionalProperties: false,
};

const contract = {
  async "models are listed and retrieved, also with a slash"() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.deepEqual(ids.slice(0, 2), ["cloister", "cloister/handbook"]);
    assert.equal((await client.models.retrieve("cloister/handbook")).id, "cloister/handbook");
  },
  async "an answer is whole, with its request id"() {
    const { data, response, request_id } = await chat.create({ model: "cloister", messages }).withResponse();
    assert.ok(data.choices[0].message.content.includes(sentence));
    assert.equal(response.headers.get("x-request-id"), request_id);
    assert.equal(data.choices[0].message.annotations[0].type, "url_citation");
  },
  async "an answer streams, with usage at the end"() {
    const stream = await chat.create({
      model: "cloister", messages, stream: true, stream_options: { include_usage: true },
    });
    let text = "";
    let usage = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.ok(text.includes(sentence));
    assert.ok(usage.total_tokens > 0);
  },
  async "the stream helper assembles the answer"() {
    const stream = chat.stream({ model: "cloister", messages });
    let deltas = "";
    stream.on("content", (delta) => { deltas += delta; });
    const final = await stream.finalChatCompletion();
    assert.equal(final.choices[0].message.content, deltas);
    assert.equal(final.choices[0].finish_reason, "stop");
  },
  async "tools are run"() {
    const asked = [];
    const runner = chat.runTools({
      model: "cloister", messages, tool_choice: "required", parallel_tool_calls: false,
      tools: [{
        type: "function",
        function: {
          name: "leave", description: "the leave", parameters, parse: JSON.parse,
          function: (given) => { asked.push(given); runner.abort(); return "16 weeks"; },
        },
      }],
    });
    await assert.rejects(runner.done(), OpenAI.APIUserAbortError);
    assert.ok(["parental", "sick"].includes(asked[0].kind));
  },
  async "an answer is of a schema"() {
    const format = { type: "json_schema", json_schema: { name: "leave", schema: parameters, strict: true } };
    const answer = await chat.parse({ model: "cloister", messages, response_format: format });
    assert.ok(["parental", "sick"].includes(JSON.parse(answer.choices[0].message.content).kind));
  },
  async "several answers stream interleaved"() {
    const stream = await chat.create({ model: "reader-v1", messages, n: 2, max_tokens: 5, stream: true });
    const seen = new Set();
    for await (const chunk of stream) for (const choice of chunk.choices) seen.add(choice.index);
    assert.deepEqual([...seen].sort(), [0, 1]);
  },
  async "errors are of the class the client has for them"() {
    await assert.rejects(chat.create({ model: "gpt-9", messages }), (error) =>
      error instanceof OpenAI.NotFoundError && error.code === "model_not_found" && error.requestID.startsWith("req_"));
    await assert.rejects(chat.create({ model: "cloister", messages, temperature: 9 }), (error) =>
      error instanceof OpenAI.BadRequestError && error.param === "temperature");
    const long = [{ role: "user", content: "word ".repeat(5000) }];
    await assert.rejects(chat.create({ model: "reader-v1", messages: long }), (error) =>
      error.code === "context_length_exceeded");
  },
  async "files are uploaded together, put into a store and found"() {
    const store = await client.vectorStores.create({ name: "buses" });
    const files = await Promise.all(["red", "green"].map((color) =>
      OpenAI.toFile(Buffer.from(`The ${color} bus goes to the harbour.`), `${color}.txt`)));
    const batch = await client.vectorStores.fileBatches.uploadAndPoll(store.id, { files });
    assert.deepEqual([batch.status, batch.file_counts.completed], ["completed", 2]);
    const found = [];
    for await (const result of client.vectorStores.search(store.id, { query: "green bus" })) found.push(result.filename);
    assert.deepEqual(found, ["green.txt", "red.txt"]);
    for await (const file of client.vectorStores.files.list(store.id)) await client.files.delete(file.id);
    assert.ok((await client.vectorStores.delete(store.id)).deleted);
  },
  async "a stream may be left"() {
    const stream = await chat.create({ model: "cloister", messages, stream: true });
    for await (const chunk of stream) if (chunk) break;
    assert.equal((await client.models.retrieve("cloister")).id, "cloister");
  },
};

for (const [name, hold] of Object.entries(contract)) {
  await hold().catch((error) => { error.message = `${name}: ${error.message}`; throw error; });
  console.log(name);
}
