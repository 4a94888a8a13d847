// The conversation, and where one says something.
import {useEffect, useLayoutEffect, useRef, useState} from "preact/hooks";
import {chats, current, give_results, is_open, regenerate, resend, running, send, spoken, stop} from "./chats.js";
import {html, use} from "./html.js";
import {Icon} from "./icons.js";
import {live, looked_at} from "./live.js";
import {Message} from "./message.js";
import {is_still} from "./theme.js";

const kNear = 60;  // pixels from the end that count as the end

export function Chat({model}) {
  const all = use(chats), id = use(current), busy = use(running);
  const chat = all.find((each) => each.id === id), is_busy = Boolean(busy[id]);
  const last = chat?.messages.at(-1);
  useEffect(() => {
    if (last?.request) looked_at.set(last.request);
  }, [last?.request]);

  useEffect(() => { document.title = chat ? `${chat.title} · moiety` : "moiety"; }, [chat?.title]);

  const actions = {
    again: (at) => regenerate(id, at),
    resend: (at, text) => resend(id, at, text),
    results: (results) => give_results(id, results),
  };
  return html`
    <${Scroller} end=${chat?.messages} chat=${id}>
      ${chat ? html`<ol class="messages">
          ${chat.messages.map((message, at) => html`<${Message} key=${message.key ?? `${id}-${at}`} message=${message} at=${at} actions=${actions}
            is_last=${at === chat.messages.length - 1} is_busy=${is_busy} />`)}
        </ol>` : html`<${Welcome} model=${model} />`}
    <//>
    <p class="for-readers" aria-live="polite" aria-atomic="true">${use(spoken)}</p>
    <${Composer} is_busy=${is_busy} stop=${() => stop(id)} is_waiting=${Boolean(last && is_open(last) && last.state === "waiting")} />`;
}

// Stays at the end while that is where one reads.
function Scroller({children, end, chat}) {
  const box = useRef(null), follows = useRef(true), [is_away, set_away] = useState(false);
  const to_end = (behavior) => box.current.scrollTo({top: box.current.scrollHeight, behavior});
  const is_at_end = () => box.current.scrollHeight - box.current.scrollTop - box.current.clientHeight < kNear;
  useLayoutEffect(() => { follows.current = true; }, [chat, end?.length]);
  useLayoutEffect(() => { if (follows.current) to_end("instant"); }, [end]);
  useEffect(() => {
    const watcher = new ResizeObserver(() => follows.current && to_end("instant"));
    watcher.observe(box.current);
    return () => watcher.disconnect();
  }, []);
  return html`<div class="scroller-frame">
    <div class="scroller" ref=${box} tabindex="0" role="region" aria-label="Conversation"
         onScroll=${() => { follows.current = is_at_end(); set_away(!follows.current); }}>${children}</div>
    ${is_away && html`<button type="button" class="to-end" aria-label="To the end" title="To the end"
      onClick=${() => to_end(is_still() ? "instant" : "smooth")}><${Icon} name="down" /></button>`}
  </div>`;
}

const kOpenings = [
  "Explain what a mixture-of-experts model is, in three sentences.",
  "Write a short poem about a library whose books choose their readers.",
  "List five surprising uses of a paper clip, as a table.",
];

function Welcome({model}) {
  const {model: shape} = use(live);
  const facts = shape && [
    shape.layers.length && `${shape.layers.length} layers of ${shape.experts} experts, ${shape.experts_per_token} a token`,
    shape.context && `${shape.context.toLocaleString("en")} tokens of context`,
  ].filter(Boolean).join(" · ");
  return html`<div class="welcome">
    <h2>${model || "Ready"}</h2>
    <p class="faint-text">${facts}</p>
    <ul>${kOpenings.map((text) => html`<li key=${text}><button type="button" onClick=${() => send(text)}>${text}</button></li>`)}</ul>
  </div>`;
}

function Composer({is_busy, is_waiting, stop: stop_answer}) {
  const [text, set_text] = useState(""), area = useRef(null);
  useLayoutEffect(() => {
    area.current.style.height = "auto";
    area.current.style.height = `${area.current.scrollHeight}px`;
  }, [text]);
  useEffect(() => {
    if (matchMedia("(pointer: fine)").matches) area.current.focus();
    if (!is_busy) return;
    const on_key = (event) => { if (event.key === "Escape" && !event.defaultPrevented) stop_answer(); };
    addEventListener("keydown", on_key);
    return () => removeEventListener("keydown", on_key);
  }, [is_busy]);

  const say = () => {
    if (is_busy || !text.trim()) return;
    send(text.trim());
    set_text("");
    area.current.focus();
  };
  return html`<form class="composer" onSubmit=${(event) => { event.preventDefault(); say(); }}>
    <div class="composer-box">
      <textarea id="say" ref=${area} rows="1" value=${text} placeholder="Say something" aria-label="Your message" enterkeyhint="send"
        onInput=${(event) => set_text(event.target.value)}
        onKeyDown=${(event) => {
          if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
          event.preventDefault();
          say();
        }}></textarea>
      ${is_busy
        ? html`<button type="button" class="round" key="stop" aria-label="Stop" title="Stop (Escape)" onClick=${stop_answer}><${Icon} name="stop" /></button>`
        : html`<button type="submit" class="round" key="send" aria-label="Send" title="Send (Enter)" disabled=${!text.trim()}><${Icon} name="send" /></button>`}
    </div>
    <p class="hint keys">${is_waiting ? "Reading the prompt …" : is_busy ? html`<kbd>Esc</kbd> stops` : html`<kbd>Enter</kbd> sends, <kbd>Shift</kbd>+<kbd>Enter</kbd> begins a line`}</p>
  </form>`;
}
