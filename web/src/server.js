// The server's HTTP interface as the page uses it.
import {Cell} from "./html.js";

// What went wrong, in a sentence, and what can be done: "key", "retry", "edit", "new" or "".
export class Failure extends Error {
  constructor(message, advice, {status = 0, seconds = 0} = {}) {
    super(message);
    Object.assign(this, {advice, status, seconds});
  }
}

const kKey = "moiety.key";
const stored = () => {
  try {
    return sessionStorage.getItem(kKey) ?? localStorage.getItem(kKey) ?? "";
  } catch {
    return "";
  }
};
export const key = new Cell(stored());
export const key_is_asked_for = new Cell(false);

export function give_key(value, remember) {
  try {
    (remember ? localStorage : sessionStorage).setItem(kKey, value);
  } catch {}
  key_is_asked_for.set(false);
  key.set(value);
}

const authorization = () => key.value ? {authorization: `Bearer ${key.value}`} : {};

// An answer with a status in the twos, or a Failure.
async function ask(path, options = {}) {
  const sent = key.value;
  let answer;
  try {
    answer = await fetch(path, {...options, headers: {...authorization(), ...options.headers}});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server does not answer. It may have been stopped, or the network is down.", "retry");
  }
  if (!answer.ok) throw await failure_of(answer, sent);
  return answer;
}

// `sent`: the key that it was asked with. When another has been given since, the refusal says nothing of that one.
async function failure_of(answer, sent) {
  let said = {};
  try {
    said = (await answer.json()).error ?? {};
  } catch {}
  const {status} = answer, message = said.message || `The server answered ${status} ${answer.statusText}`.trim() + ".";
  const seconds = Number(answer.headers.get("retry-after")) || 0;
  if (status === 401 || status === 403) {
    if (key.value === sent) key_is_asked_for.set(true);
    return new Failure(sent ? "The server does not know this API key." : "The server asks for an API key.", "key", {status});
  }
  if (said.code === "context_length_exceeded") return new Failure(message, "new", {status});
  if (status === 429 || status >= 500) return new Failure(message, "retry", {status, seconds});
  return new Failure(message, "edit", {status});
}

// The data of server-sent events as they come (https://html.spec.whatwg.org/multipage/server-sent-events.html), as
// {name, data}. EventSource itself can neither post nor send a key.
async function* events_of(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", name = "", data = [];
  try {
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const raw of lines) {
        const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
        if (line === "") {
          if (data.length) yield {name, data: data.join("\n")};
          name = "", data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        } else if (line.startsWith("event:")) {
          name = line.slice(6).trim();
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export async function models() {
  return (await (await ask("/v1/models")).json()).data.map((model) => model.id);
}

// The chunks of a chat answer, after {request}: the id under which the server knows it.
export async function* chat(body, signal) {
  const answer = await ask("/v1/chat/completions", {
    method: "POST", headers: {"content-type": "application/json"}, signal,
    body: JSON.stringify({...body, stream: true, stream_options: {include_usage: true}}),
  });
  yield {request: answer.headers.get("x-request-id")};
  let ended = false;
  try {
    for await (const {data} of events_of(answer)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Failure(chunk.error.message ?? "The server could not go on.", "retry");
      ended ||= Boolean(chunk.choices?.[0]?.finish_reason);
      yield chunk;
    }
  } catch (error) {
    if (error instanceof Failure || error.name === "AbortError") throw error;
  }
  if (!ended) throw new Failure("The connection was lost in the middle of the answer. What had come is kept.", "retry");
}

// What the machine does, some times a second.
export async function* live(request, signal) {
  const answer = await ask(`/live${request ? `?request=${encodeURIComponent(request)}` : ""}`, {signal});
  for await (const {name, data} of events_of(answer)) {
    const event = JSON.parse(data);
    if (event.error) throw new Failure(event.error.message, "retry");
    yield {name, ...event};
  }
}
