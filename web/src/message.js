// One message: what was said, what can be done with it, and how it went.
import {Component} from "preact";
import {useEffect, useRef, useState} from "preact/hooks";
import {is_open} from "./chats.js";
import {html, use} from "./html.js";
import {Icon} from "./icons.js";
import {looked_at} from "./live.js";
import {blocks_of} from "./markdown.js";
import {key_is_asked_for} from "./server.js";
import {show} from "./views.js";

export class Message extends Component {
  shouldComponentUpdate(next) {
    return ["message", "is_last", "is_busy"].some((name) => next[name] !== this.props[name]);
  }
  render({message, ...rest}) {
    if (message.role === "user") return html`<${Said} message=${message} ...${rest} />`;
    if (message.role === "tool") return html`<li class="message tool"><p class="who">Tool result</p><pre tabindex="0">${message.content}</pre></li>`;
    return html`<${Answer} message=${message} ...${rest} />`;
  }
}

function Said({message, at, actions, is_busy}) {
  const [is_edited, set_edited] = useState(false);
  const edit = useRef(null);
  const end = (text) => {
    set_edited(false);
    if (text !== undefined) actions.resend(at, text);
    else setTimeout(() => edit.current?.focus());
  };
  return html`<li class="message user">
    <h3 class="for-readers">You</h3>
    ${is_edited ? html`<${Editor} text=${message.content} end=${end} />` : html`
      <div class="bubble">${message.content}</div>
      <div class="actions">
        <${Copy} text=${message.content} />
        ${!is_busy && html`<button type="button" ref=${edit} class="quiet" title="Edit and send again" aria-label="Edit and send again" onClick=${() => set_edited(true)}><${Icon} name="edit" /></button>`}
      </div>`}
  </li>`;
}

function Editor({text, end}) {
  const area = useRef(null);
  useEffect(() => {
    area.current.focus();
    area.current.setSelectionRange(text.length, text.length);
  }, []);
  const send = () => { if (area.current.value.trim()) end(area.current.value.trim()); };
  return html`<form class="editor" onSubmit=${(event) => { event.preventDefault(); send(); }}>
    <textarea ref=${area} rows=${Math.min(12, text.split("\n").length + 1)} aria-label="Your message, edited" defaultValue=${text}
      onKeyDown=${(event) => {
        if (event.key === "Escape") { event.preventDefault(); end(); }
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
      }}></textarea>
    <div class="row"><button type="button" class="plain" onClick=${() => end()}>Cancel</button><button type="submit" class="primary">Send</button></div>
  </form>`;
}

function Answer({message, at, actions, is_last, is_busy}) {
  const {content, reasoning, calls, failure, state} = message, open = is_open(message);
  return html`<li class=${`message assistant ${state}`} aria-busy=${open}>
    <h3 class="for-readers">Answer</h3>
    ${reasoning && html`<details class="reasoning" open=${open && !content}><summary>${open && !content ? "Thinking …" : "Thoughts"}</summary><${Markdown} text=${reasoning} /></details>`}
    ${content && html`<${Markdown} text=${content} />`}
    ${state === "waiting" && html`<p class="waiting" role="img" aria-label="Waiting for the first word"><span></span><span></span><span></span></p>`}
    ${calls?.map((call) => html`<${Call} key=${call.id} call=${call} />`)}
    ${calls?.length > 0 && is_last && !open && html`<${Results} calls=${calls} give=${actions.results} />`}
    ${failure && html`<${Trouble} failure=${failure} again=${() => actions.again(at)} is_busy=${is_busy} />`}
    ${!open && (content || !failure) && html`<div class="actions">
      ${content && html`<${Copy} text=${content} />`}
      ${!is_busy && html`<button type="button" class="quiet" title="Answer again" aria-label="Answer again" onClick=${() => actions.again(at)}><${Icon} name="again" /></button>`}
      ${message.request && html`<${ShowExperts} request=${message.request} />`}
      <${Figures} message=${message} />
    </div>`}
  </li>`;
}

function Markdown({text}) {
  const before = useRef([]);
  before.current = blocks_of(text, before.current);
  const on_click = async ({target}) => {
    if (!target.matches("button.copy")) return;
    await put(target.closest(".code").querySelector("pre").textContent);
    target.textContent = "Copied";
    setTimeout(() => { target.textContent = "Copy"; }, 1500);
  };
  return html`<div class="markdown" onClick=${on_click}>
    ${before.current.map((block, at) => html`<div key=${at} dangerouslySetInnerHTML=${{__html: block.html}}></div>`)}
  </div>`;
}

// The clipboard is closed to pages that came without TLS from another machine; a selection can be copied there all the same.
async function put(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea"), focused = document.activeElement;
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    focused?.focus();
  }
}

function Copy({text}) {
  const [is_done, set_done] = useState(false);
  const copy = async () => {
    await put(text);
    set_done(true);
    setTimeout(() => set_done(false), 1500);
  };
  return html`<button type="button" class="quiet" title="Copy" aria-label=${is_done ? "Copied" : "Copy"} onClick=${copy}><${Icon} name=${is_done ? "done" : "copy"} /></button>`;
}

function ShowExperts({request}) {
  const is_shown = use(looked_at) === request;
  return html`<button type="button" class="quiet" title="The experts of this answer" aria-label="The experts of this answer" aria-pressed=${is_shown}
    onClick=${() => { looked_at.set(request); show("machine"); }}><${Icon} name="experts" /></button>`;
}

function Figures({message}) {
  const {tokens, first, seconds, finish, state, prompt, cached} = message;
  const figures = [
    tokens !== undefined && `${tokens} tokens`,
    tokens > 1 && seconds > first && `${Number(((tokens - 1) / (seconds - first)).toPrecision(3)).toLocaleString("en")}/s`,
    first !== undefined && `first after ${first.toPrecision(2)} s`,
    finish === "length" && "cut at the longest answer",
    state === "stopped" && "stopped",
  ].filter(Boolean);
  const title = prompt === undefined ? undefined : `prompt: ${prompt} tokens${cached ? `, ${cached} of them kept from before` : ""}`;
  return html`<span class="figures" title=${title}>${figures.join(" · ")}</span>`;
}

function Call({call}) {
  return html`<details class="call"><summary><span class="who">Calls</span> <code>${call.name}</code></summary><pre tabindex="0">${pretty(call.arguments)}</pre></details>`;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

// What the tools answered is for the person to say: the page runs none.
function Results({calls, give}) {
  const fields = useRef([]);
  const send = (event) => {
    event.preventDefault();
    give(calls.map((call, at) => ({call: call.id, content: fields.current[at].value})));
  };
  return html`<form class="results" onSubmit=${send}>
    ${calls.map((call, at) => html`<label key=${call.id} class="field"><span class="label">Result of <code>${call.name}</code></span>
      <textarea rows="2" ref=${(area) => { fields.current[at] = area; }}></textarea></label>`)}
    <button type="submit" class="plain">Give ${calls.length === 1 ? "it" : "them"} to the model</button>
  </form>`;
}

const kAdvice = {
  retry: "Try again",
  edit: "Try again",
  new: "",
  key: "Try again",
};

function Trouble({failure, again, is_busy}) {
  const {message, advice, seconds} = failure;
  const more = {
    edit: "Change the settings or the message, then try again.",
    new: "Start a new chat, or make the messages shorter.",
    retry: seconds ? `The server asks to wait ${seconds} s.` : "",
    key: "Give the key above, then try again.",
  }[advice];
  return html`<div class="notice trouble" role="alert"><p>${message} ${more}</p>
    ${kAdvice[advice] && !is_busy && html`<button type="button" class="plain" onClick=${() => { if (advice === "key") key_is_asked_for.set(false); again(); }}>${kAdvice[advice]}</button>`}
    ${advice === "edit" && html`<button type="button" class="plain" onClick=${() => show("settings")}>Settings</button>`}</div>`;
}
