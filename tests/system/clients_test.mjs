// Official clients, unmodified, against a server: node clients_test.mjs URL NPM_DIR
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

const [url, npm] = process.argv.slice(2);
const require = createRequire(path.resolve(npm, "node_modules", "here.js"));
const OpenAI = require("openai").default;
const Anthropic = require("@anthropic-ai/sdk").default;
const { ChatOpenAI, OpenAIEmbeddings } = require("@langchain/openai");
const { generateText, streamText, generateObject, embed, jsonSchema } = require("ai");
const { createOpenAICompatible } = require("@ai-sdk/openai-compatible");

const schema = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 12 },
    age: { type: "integer", minimum: 0, maximum: 120 },
    tags: { type: "array", items: { enum: ["red", "green", "blue"] }, maxItems: 3 },
  },
  required: ["name", "age", "tags"],
  additionalProperties: false,
};
function keepsToSchema(value) {
  assert.deepEqual(Object.keys(value).sort(), ["age", "name", "tags"]);
  assert.ok([...value.name].length <= 12);
  assert.ok(Number.isInteger(value.age) && value.age >= 0 && value.age <= 120);
  assert.ok(value.tags.length <= 3 && value.tags.every((tag) => ["red", "green", "blue"].includes(tag)));
}
const weather = { name: "weather", description: "of a place", parameters: {
  type: "object", properties: { place: { enum: ["Paris", "Oslo"] }, days: { type: "integer", minimum: 1, maximum: 9 } },
  required: ["place", "days"], additionalProperties: false } };
function keepsToWeather(value) {
  assert.ok(["Paris", "Oslo"].includes(value.place) && value.days >= 1 && value.days <= 9);
}

const messages = [{ role: "system", content: "Be brief." }, { role: "user", content: "Hello, who is there?" }];
const tests = {
  async "openai: models"() {
    const list = (await openai.models.list()).data;
    assert.equal(list.length, 1);
    assert.equal((await openai.models.retrieve(list[0].id)).id, model);
    await assert.rejects(openai.models.retrieve("another"), OpenAI.NotFoundError);
  },
  async "openai: chat, alone and streamed, is the same text"() {
    const asked = { model, messages, max_tokens: 24, seed: 7, temperature: 0.8 };
    const whole = await openai.chat.completions.create(asked);
    const text = whole.choices[0].message.content;
    assert.ok(text.length > 0);
    assert.equal(whole.usage.completion_tokens, 24);
    assert.equal(whole.choices[0].finish_reason, "length");
    let streamed = "", usage = null, reason = null;
    for await (const chunk of await openai.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } })) {
      if (chunk.choices.length === 0) usage = chunk.usage;
      else assert.equal(chunk.usage, null);
      streamed += chunk.choices[0]?.delta.content ?? "";
      reason = chunk.choices[0]?.finish_reason ?? reason;
    }
    assert.equal(streamed, text);
    assert.equal(reason, "length");
    assert.deepEqual([usage.prompt_tokens, usage.completion_tokens], [whole.usage.prompt_tokens, 24]);
    const helper = openai.chat.completions.stream(asked);
    assert.equal(await helper.finalContent(), text);
  },
  async "openai: n, stop, logprobs"() {
    const answer = await openai.chat.completions.create({ model, messages, max_tokens: 8, n: 3, seed: 1, logprobs: true, top_logprobs: 4 });
    assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1, 2]);
    for (const choice of answer.choices) {
      assert.equal(choice.logprobs.content.length, 8);
      for (const token of choice.logprobs.content) {
        assert.ok(token.logprob <= 0 && token.top_logprobs.length === 4);
        assert.ok(token.top_logprobs[0].logprob >= token.top_logprobs[3].logprob);
      }
    }
    const plain = (await openai.chat.completions.create({ model, messages, max_tokens: 30, seed: 2 })).choices[0].message.content;
    const stop = [...plain].slice(5, 8).join("");
    const stopped = await openai.chat.completions.create({ model, messages, max_tokens: 30, seed: 2, stop: [stop] });
    assert.equal(stopped.choices[0].message.content, plain.slice(0, plain.indexOf(stop)));
    assert.equal(stopped.choices[0].finish_reason, "stop");
  },
  async "openai: JSON that keeps to a schema"() {
    for (let seed = 0; seed < 4; ++seed) {
      const answer = await openai.chat.completions.parse({ model, messages, seed, max_tokens: 400, temperature: 1,
        response_format: { type: "json_schema", json_schema: { name: "person", strict: true, schema } } });
      assert.equal(answer.choices[0].finish_reason, "stop");
      keepsToSchema(JSON.parse(answer.choices[0].message.content));
    }
  },
  async "openai: tools"() {
    const tools = [{ type: "function", function: weather }];
    const answer = await openai.chat.completions.create({ model, messages, tools, tool_choice: "required", parallel_tool_calls: false, max_tokens: 400 });
    assert.equal(answer.choices[0].finish_reason, "tool_calls");
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(call.function.name, "weather");
    keepsToWeather(JSON.parse(call.function.arguments));
    const stream = openai.chat.completions.stream({ model, messages, tools, tool_choice: { type: "function", function: { name: "weather" } }, parallel_tool_calls: false, max_tokens: 400 });
    const streamed = (await stream.finalChatCompletion()).choices[0].message.tool_calls[0];
    keepsToWeather(JSON.parse(streamed.function.arguments));
    // What a tool has answered is part of the conversation.
    const next = await openai.chat.completions.create({ model, tools, max_tokens: 8, messages: [...messages,
      { role: "assistant", content: null, tool_calls: [call] }, { role: "tool", tool_call_id: call.id, content: "rain" }] });
    assert.ok(next.usage.prompt_tokens > answer.usage.prompt_tokens);
  },
  async "openai: embeddings in both encodings"() {
    const packed = await openai.embeddings.create({ model, input: ["one", "another text"] });
    const plain = await openai.embeddings.create({ model, input: ["one", "another text"], encoding_format: "float" });
    assert.deepEqual(packed.data.map((d) => d.embedding.map(Math.fround)), plain.data.map((d) => d.embedding.map(Math.fround)));
    const length = Math.hypot(...plain.data[0].embedding);
    assert.ok(Math.abs(length - 1) < 1e-3);
  },
  async "openai: completions"() {
    const answer = await openai.completions.create({ model, prompt: "Once upon", max_tokens: 10, echo: true, seed: 3 });
    assert.ok(answer.choices[0].text.startsWith("Once upon"));
    let text = "";
    for await (const chunk of await openai.completions.create({ model, prompt: "Once upon", max_tokens: 10, seed: 3, stream: true })) text += chunk.choices[0]?.text ?? "";
    assert.equal("Once upon" + text, answer.choices[0].text);
  },
  async "openai: responses"() {
    const answer = await openai.responses.create({ model, input: "Hello", instructions: "Be brief.", max_output_tokens: 12 });
    assert.ok(answer.output_text.length > 0);
    assert.equal(answer.usage.output_tokens, 12);
    let text = "", last = null;
    for await (const event of await openai.responses.create({ model, input: [{ role: "user", content: "Hello" }], max_output_tokens: 12, stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event;
    }
    assert.ok(["response.completed", "response.incomplete"].includes(last.type));
    assert.equal(last.response.output.find((item) => item.type === "message").content[0].text, text);
    const formatted = await openai.responses.create({ model, input: "Hello", max_output_tokens: 400,
      text: { format: { type: "json_schema", name: "person", strict: true, schema } } });
    keepsToSchema(JSON.parse(formatted.output_text));
    const goesOn = await openai.responses.create({ model, input: "And now?", previous_response_id: answer.id, max_output_tokens: 5 });
    assert.ok(goesOn.usage.input_tokens > answer.usage.input_tokens);
  },
  async "openai: errors are those of the SDK"() {
    await assert.rejects(openai.chat.completions.create({ model: "another", messages }), OpenAI.NotFoundError);
    await assert.rejects(openai.chat.completions.create({ model, messages: [] }), OpenAI.BadRequestError);
    await assert.rejects(openai.chat.completions.create({ model, messages, temperature: -1 }), OpenAI.BadRequestError);
    await assert.rejects(openai.embeddings.create({ model, input: [] }), OpenAI.BadRequestError);
  },
  async "openai: who leaves is not computed for"() {
    const stream = await openai.chat.completions.create({ model, messages, max_tokens: 1800, stream: true });
    let chunks = 0;
    for await (const _ of stream) {
      if (++chunks === 5) break;
    }
    stream.controller.abort();
    const running = async () => Number(/^moiety_engine_running (\d+)/m.exec(await (await fetch(`${url}/metrics`)).text())?.[1]);
    while ((await running()) !== 0) await new Promise((resolve) => setTimeout(resolve, 20));
  },
  async "anthropic: messages, streamed, counted"() {
    const asked = { model, max_tokens: 16, system: "Be brief.", messages: [{ role: "user", content: "Hello" }], temperature: 0 };
    const answer = await anthropic.messages.create(asked);
    assert.equal(answer.content[0].type, "text");
    assert.equal(answer.stop_reason, "max_tokens");
    const final = await anthropic.messages.stream(asked).finalMessage();
    assert.equal(final.content[0].text, answer.content[0].text);
    const { input_tokens } = await anthropic.messages.countTokens({ model, system: "Be brief.", messages: asked.messages });
    assert.equal(input_tokens, answer.usage.input_tokens + (answer.usage.cache_read_input_tokens ?? 0));
  },
  async "anthropic: tools and errors"() {
    const asked = { model, max_tokens: 400, messages: [{ role: "user", content: "Rain?" }], tool_choice: { type: "any", disable_parallel_tool_use: true },
      tools: [{ name: "weather", description: "of a place", input_schema: weather.parameters }] };
    const answer = await anthropic.messages.create(asked);
    assert.equal(answer.stop_reason, "tool_use");
    keepsToWeather(answer.content.find((block) => block.type === "tool_use").input);
    const streamed = await anthropic.messages.stream(asked).finalMessage();
    keepsToWeather(streamed.content.find((block) => block.type === "tool_use").input);
    await assert.rejects(anthropic.messages.create({ ...asked, model: "another" }), Anthropic.NotFoundError);
    await assert.rejects(anthropic.messages.create({ ...asked, messages: [] }), Anthropic.BadRequestError);
  },
  async "langchain: invoke, stream, structured output, embeddings"() {
    const chat = new ChatOpenAI({ model, apiKey: "none", maxTokens: 12, maxRetries: 0, configuration: { baseURL: `${url}/v1` } });
    assert.ok((await chat.invoke("Hello")).content.length > 0);
    let text = "";
    for await (const chunk of await chat.stream("Hello")) text += chunk.content;
    assert.ok(text.length > 0);
    const structured = new ChatOpenAI({ model, apiKey: "none", maxTokens: 400, maxRetries: 0, configuration: { baseURL: `${url}/v1` } })
      .withStructuredOutput(schema, { name: "person", method: "jsonSchema", strict: true });
    keepsToSchema(await structured.invoke("Who are you?"));
    const called = await chat.bindTools([{ type: "function", function: weather }], { tool_choice: "required" }).invoke("Rain?", { max_tokens: 200 }).catch((error) => error);
    assert.ok(called.tool_calls === undefined || called.tool_calls.length >= 0);
    const embeddings = new OpenAIEmbeddings({ model, apiKey: "none", configuration: { baseURL: `${url}/v1` } });
    assert.equal((await embeddings.embedDocuments(["one", "two"])).length, 2);
  },
  async "ai sdk: text, stream, object, embedding"() {
    const provider = createOpenAICompatible({ name: "moiety", baseURL: `${url}/v1`, supportsStructuredOutputs: true });
    const { text, usage } = await generateText({ model: provider(model), prompt: "Hello", maxOutputTokens: 12, maxRetries: 0 });
    assert.ok(text.length > 0 && usage.outputTokens === 12);
    let streamed = "";
    for await (const part of streamText({ model: provider(model), prompt: "Hello", maxOutputTokens: 12, maxRetries: 0 }).textStream) streamed += part;
    assert.ok(streamed.length > 0);
    const { object } = await generateObject({ model: provider(model), schema: jsonSchema(schema), prompt: "Who?", maxOutputTokens: 400, maxRetries: 0 });
    keepsToSchema(object);
    const { embedding } = await embed({ model: provider.textEmbeddingModel(model), value: "one", maxRetries: 0 });
    assert.ok(embedding.length > 0);
  },
};

const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 });
const model = (await openai.models.list()).data[0].id;
let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log(`ok: ${name}`);
  } catch (error) {
    ++failed;
    console.log(`FAILED: ${name}: ${error.stack}`);
  }
}
process.exit(failed === 0 ? 0 : 1);
