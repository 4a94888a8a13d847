// The page with a server behind it that only pretends, to work on the page without a model:
//   web/build.sh && node web/mock.mjs [PORT]
// Messages choose what is answered: "think", "call", "fail", "lose", "key", "long"; anything else gets some markdown.
import {readFileSync} from "node:fs";
import {createServer} from "node:http";

const kLayers = 24, kExperts = 64, kPerToken = 8;
const folder = new URL("../build/web/", import.meta.url);
const visits = new Map(), load = new Float64Array(kLayers * kExperts);
let running = 0, spoken = 0;

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const event = (answer, data, name) => answer.write(`${name ? `event: ${name}\n` : ""}data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`);

const kMarkdown = `Here is **some markdown**, with \`code\` and a [link](https://example.org/).

## A list

1. one
2. two, with *emphasis*
   - and below it

| use | surprise |
| --- | ---: |
| holding paper | 1 |
| resetting a router | 8 |

\`\`\`cpp
const moe::Routing routing = moe::route(rule_, logits_TE.view().flat(), bias_E_);  // which token visits whom
\`\`\`

> Each token visits a few experts. <img src=x onerror=alert(1)> stays text.
`;

function visit(id) {
  const mine = visits.get(id);
  for (let layer = 0; layer < kLayers; ++layer) {
    for (let k = 0; k < kPerToken; ++k) {
      const cell = layer * kExperts + Math.floor(kExperts * Math.random() ** 2.2 * (0.6 + 0.4 * Math.sin(layer + 1) ** 2) + layer * 7) % kExperts;
      mine[cell] += 1;
      load[cell] += 1;
    }
  }
  ++spoken;
}

function map_of(values) {
  const most = Math.max(...values, 1e-9);
  return Buffer.from(Uint8Array.from(values, (value) => Math.round(255 * Math.sqrt(value / most)))).toString("base64");
}

async function chat(body, answer, id) {
  const said = body.messages.at(-1).content;
  if (JSON.stringify(body).length > 1e5) return refuse(answer, 400, "The prompt has 40960 tokens; the context has 32768.", {}, "context_length_exceeded");
  if (/fail/.test(said)) return refuse(answer, 503, "The queue is full: 16 requests wait already.", {"retry-after": "3"});
  if (/key/.test(said)) return refuse(answer, 401, "No API key was given.");
  visits.set(id, new Float64Array(kLayers * kExperts));
  answer.writeHead(200, {"content-type": "text/event-stream", "x-request-id": id});
  const delta = (fields, finish_reason = null) => event(answer, {choices: [{index: 0, delta: fields, finish_reason}]});
  let open = true, tokens = 0;
  answer.on("close", () => { open = false; });
  const say = async (field, text) => {
    for (const word of text.split(/(?<=\s)/)) {
      if (!open || tokens === body.max_tokens) return;
      delta({[field]: word});
      visit(id);
      ++tokens;
      await sleep(25);
    }
  };
  ++running;
  delta({role: "assistant", content: ""});
  await sleep(300);
  if (/think/.test(said)) await say("reasoning_content", "The question is short. I should think about it before I answer, but not for long.");
  if (/call/.test(said)) {
    delta({tool_calls: [{index: 0, id: "call_1", type: "function", function: {name: "weather", arguments: ""}}]});
    for (const part of ["{\"city\":", " \"Jena\"}"]) delta({tool_calls: [{index: 0, function: {arguments: part}}]});
    delta({}, "tool_calls");
  } else {
    await say("content", /long/.test(said) ? kMarkdown.repeat(12) : kMarkdown);
    if (/lose/.test(said)) { --running; return answer.destroy(); }
    delta({}, tokens === body.max_tokens ? "length" : "stop");
  }
  --running;
  event(answer, {choices: [], usage: {prompt_tokens: 24, completion_tokens: tokens, prompt_tokens_details: {cached_tokens: 8}}});
  event(answer, "[DONE]");
  answer.end();
}

async function live(id, answer) {
  answer.writeHead(200, {"content-type": "text/event-stream"});
  event(answer, {layers: Array.from({length: kLayers}, (_, at) => at), experts: kExperts, experts_per_token: kPerToken, context: 32768}, "model");
  for (let before = spoken; !answer.destroyed; await sleep(250)) {
    const rate = 4 * (spoken - before);
    before = spoken;
    event(answer, {
      tokens_per_second: rate, prompt_tokens_per_second: 0, running, waiting: 0, cache_tokens: 32768, cache_tokens_used: spoken % 32768, cache_tokens_shared: 8,
      memory: 6.1e9 + 1e6 * spoken, memory_budget: 8 * 2 ** 30, hits: rate * 7, misses: rate * (1 + Math.random()), bytes_read: rate * 2.2e6 * (1 + Math.random()),
      expert_slots: 512, all: map_of(load), answer: visits.has(id) ? map_of(visits.get(id)) : undefined,
    });
  }
}

const send = (answer, value) => answer.writeHead(200, {"content-type": "application/json"}).end(JSON.stringify(value));
const refuse = (answer, status, message, headers = {}, code) =>
  answer.writeHead(status, {"content-type": "application/json", ...headers}).end(JSON.stringify({error: {message, code}}));

let requests = 0;
createServer(async (request, answer) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/") {
    return answer.writeHead(200, {"content-type": "text/html", "content-security-policy": readFileSync(new URL("page.csp", folder), "utf8")})
      .end(readFileSync(new URL("page.html", folder)));
  }
  if (url.pathname === "/v1/models") return send(answer, {data: [{id: "OLMoE-1B-7B-Instruct"}]});
  if (url.pathname === "/live") return live(url.searchParams.get("request"), answer);
  if (url.pathname !== "/v1/chat/completions") return refuse(answer, 404, "There is no such path.");
  let body = "";
  for await (const part of request) body += part;
  chat(JSON.parse(body), answer, `mock-${++requests}`);
}).listen(Number(process.argv[2] ?? 8081), "127.0.0.1", function () { console.log(`http://127.0.0.1:${this.address().port}/`); });
