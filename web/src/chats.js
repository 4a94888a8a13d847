// Conversations: what was said, and the asking for more. They are kept in this browser, nowhere else.
//
// A chat is {id, title, messages}; a message {role, content}, one of the assistant's also {key, state, reasoning, calls, failure,
// request, tokens, prompt, cached, seconds, first, finish}, where state is "waiting", "streaming", "done", "stopped" or "failed".
// None of them is ever changed: others take their place, so that what is the same object needs no drawing.
import {Cell, kept} from "./html.js";
import {Failure, chat as ask} from "./server.js";
import {request_fields, settings} from "./settings.js";

const kTitle = 60;
const fresh_id = () => Array.from(crypto.getRandomValues(new Uint32Array(2)), (part) => part.toString(36)).join("");

export const chats = new Cell([]);  // the latest first; saved when an answer ends, not at each of its tokens
export const current = kept("moiety.current", "");
export const running = new Cell({});  // for each chat to which an answer comes, its AbortController
export const spoken = new Cell("");   // for screen readers: the answer, sentence by sentence

const saved = kept("moiety.chats", []);
const read = (value) => chats.set(Array.isArray(value) ? value.map(revived) : []);
read(saved.value);
// Another tab has saved: what it knows is later, unless something is being said here.
addEventListener("storage", ({key, newValue}) => {
  if (key === "moiety.chats" && !Object.keys(running.value).length) read(JSON.parse(newValue));
});

// An answer that was coming when the page was closed has been stopped by that.
function revived(chat) {
  return {...chat, messages: chat.messages.map((message) => is_open(message) ? {...message, state: "stopped"} : message)};
}

export function is_open(message) {
  return message.state === "waiting" || message.state === "streaming";
}
const save = () => saved.set(chats.value);
export const chat_of = (id) => chats.value.find((chat) => chat.id === id);
const title_of = (text) => {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > kTitle ? line.slice(0, kTitle - 1).trimEnd() + "…" : line;
};

function change(id, change_chat) {
  chats.set(chats.value.map((chat) => chat.id === id ? change_chat(chat) : chat));
}

const set_messages = (id, messages) => change(id, (chat) => ({...chat, messages}));

function set_running(id, controller) {
  const {[id]: _, ...others} = running.value;
  running.set(controller ? {...others, [id]: controller} : others);
}

export const stop = (id) => running.value[id]?.abort();
export const start = () => current.set("");

export function remove(id) {
  stop(id);
  chats.set(chats.value.filter((chat) => chat.id !== id));
  if (current.value === id) current.set("");
  save();
}

export function rename(id, title) {
  if (title.trim()) change(id, (chat) => ({...chat, title: title_of(title)}));
  save();
}

// Says something in the current chat, or in a new one.
export function send(text) {
  let chat = chat_of(current.value);
  if (!chat) {
    chat = {id: fresh_id(), title: title_of(text), messages: []};
    current.set(chat.id);
  }
  chats.set([chat, ...chats.value.filter((each) => each.id !== chat.id)]);
  return answer(chat.id, [...chat.messages, {role: "user", content: text}]);
}

// Says something else instead of message `at`, and forgets what followed it.
export function resend(id, at, text) {
  return answer(id, [...chat_of(id).messages.slice(0, at), {role: "user", content: text}]);
}

// The answer that is message `at` once more.
export const regenerate = (id, at) => answer(id, chat_of(id).messages.slice(0, at));

// The results of the tools that the last answer called for.
export function give_results(id, results) {
  return answer(id, [...chat_of(id).messages, ...results.map(({call, content}) => ({role: "tool", tool_call_id: call, content}))]);
}

function wire(message) {
  if (message.role !== "assistant") return {role: message.role, content: message.content, tool_call_id: message.tool_call_id};
  const calls = message.calls?.map((call) => ({id: call.id, type: "function", function: {name: call.name, arguments: call.arguments}}));
  return {role: "assistant", content: message.content, ...(calls?.length ? {tool_calls: calls} : {})};
}

// An answer that failed before its first word is nothing to go on from.
const is_said = (message) => message.role !== "assistant" || message.content || message.calls?.length;

async function answer(id, messages) {
  stop(id);
  const controller = new AbortController(), key = fresh_id(), reply = new Reply();
  set_running(id, controller);
  set_messages(id, [...messages, {role: "assistant", key, ...reply.message()}]);
  save();

  // At most one drawing in a thirtieth of a second, however fast tokens come.
  let timer = 0;
  const show = () => {
    timer = 0;
    change(id, (chat) => ({...chat, messages: chat.messages.map((message) => message.key === key ? {...message, ...reply.message()} : message)}));
    if (id === current.value) spoken.set(reply.speech());
  };
  try {
    for await (const chunk of ask({messages: spoken_so_far(messages), ...request_fields()}, controller.signal)) {
      reply.take(chunk);
      timer ||= setTimeout(show, 33);
    }
    reply.end("done");
  } catch (error) {
    if (error.name === "AbortError") reply.end("stopped");
    else reply.end("failed", error instanceof Failure ? error : new Failure(`The page failed: ${error.message}`, "retry"));
  }
  clearTimeout(timer);
  show();
  if (running.value[id] === controller) set_running(id, null);
  save();
}

function spoken_so_far(messages) {
  const system = settings.value.system.trim();
  return [...(system ? [{role: "system", content: system}] : []), ...messages.filter(is_said).map(wire)];
}

// An answer as it comes.
class Reply {
  #start = performance.now();
  #said = 0;  // characters that were spoken
  #message = {state: "waiting", content: "", reasoning: "", calls: []};

  message() { return {...this.#message}; }

  take({request, usage, choices}) {
    const message = this.#message, seconds = (performance.now() - this.#start) / 1000;
    if (request) message.request = request;
    if (usage) {
      Object.assign(message, {tokens: usage.completion_tokens, prompt: usage.prompt_tokens, cached: usage.prompt_tokens_details?.cached_tokens});
    }
    const {delta: {content, reasoning_content, tool_calls} = {}, finish_reason} = choices?.[0] ?? {};
    if (content || reasoning_content || tool_calls) {
      message.first ??= seconds;
      message.seconds = seconds;
      message.state = "streaming";
    }
    message.content += content ?? "";
    message.reasoning += reasoning_content ?? "";
    for (const call of tool_calls ?? []) this.#take_call(call);
    if (finish_reason) message.finish = finish_reason;
  }

  #take_call({index = 0, id, function: {name, arguments: text} = {}}) {
    const calls = [...this.#message.calls], call = calls[index] ?? {id: "", name: "", arguments: ""};
    calls[index] = {id: id ?? call.id, name: name ?? call.name, arguments: call.arguments + (text ?? "")};
    this.#message.calls = calls;
  }

  end(state, failure) {
    this.#message.state = state;
    if (failure) this.#message.failure = {message: failure.message, advice: failure.advice, seconds: failure.seconds};
  }

  // What a screen reader has not been told yet, up to the end of a sentence.
  speech() {
    const {content, state, failure} = this.#message, rest = content.slice(this.#said);
    if (!is_open(this.#message)) {
      this.#said = content.length;
      return `${rest} ${failure?.message ?? (state === "stopped" ? "Stopped." : "End of the answer.")}`;
    }
    const end = Math.max(...[". ", "! ", "? ", ": ", "\n"].map((mark) => rest.lastIndexOf(mark)));
    if (end < 0) return spoken.value;
    this.#said += end + 1;
    return rest.slice(0, end + 1);
  }
}
