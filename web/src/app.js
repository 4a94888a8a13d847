// The page: a bar at the top, the conversation, and beside it (or, on a narrow screen, instead of it) its panels.
import {useEffect, useRef, useState} from "preact/hooks";
import {Chat} from "./chat.js";
import {chats, current, remove, rename, running, start} from "./chats.js";
import {html, storage_is_full, use} from "./html.js";
import {Icon} from "./icons.js";
import {KeyForm} from "./key_form.js";
import {live} from "./live.js";
import {Machine} from "./machine.js";
import {key, key_is_asked_for, models} from "./server.js";
import {Settings} from "./settings_panel.js";
import {theme, themes} from "./theme.js";
import {panel, show, view, views} from "./views.js";

export function App() {
  const shown = use(view), beside = use(panel), asked = use(key_is_asked_for), full = use(storage_is_full);
  const [model, set_model] = useState("");
  const known = use(key), {model: shape} = use(live);
  useEffect(() => {
    models().then(([first]) => set_model(first ?? ""), () => {});
  }, [known, shape]);

  return html`
    <div class="app" data-view=${shown} data-panel=${beside}>
      <a class="skip" href="#say" onClick=${(event) => { event.preventDefault(); show("chat"); setTimeout(() => document.getElementById("say")?.focus()); }}>To the conversation</a>
      <header class="bar">
        <h1 class="brand"><${Mark} />moiety</h1>
        <p class="model" title=${model}>${model}</p>
        <button type="button" class="quiet new-icon" title="New chat" aria-label="New chat" onClick=${begin}><${Icon} name="plus" /></button>
        <${ThemeSwitch} />
      </header>
      <nav class="views" aria-label="Parts of the page">
        ${views.map(([name, label]) => html`
          <button type="button" key=${name} class=${`view-${name}`} aria-current=${shown === name ? "page" : undefined}
                  data-beside=${beside === name ? "" : undefined} onClick=${() => show(name)}>
            <${Icon} name=${name} /><span>${label}</span>
          </button>`)}
      </nav>
      <aside class="part part-chats" aria-label="Chats"><${Chats} /></aside>
      <main class="part part-chat">
        ${asked && html`<${KeyForm} />`}
        ${full && html`<p class="notice" role="alert">This browser's storage is full: delete chats that you don't need, or new ones will not be kept.</p>`}
        <${Chat} model=${model} />
      </main>
      <aside class="part part-machine" aria-label="Machine"><${Machine} /></aside>
      <aside class="part part-settings" aria-label="Settings"><${Settings} /></aside>
    </div>`;
}

function begin() {
  start();
  view.set("chat");
  setTimeout(() => document.getElementById("say")?.focus());
}

const Mark = () => html`<svg class="mark" viewBox="0 0 16 16" aria-hidden="true">
  <rect width="7" height="7" rx="1.5" /><rect x="9" y="9" width="7" height="7" rx="1.5" />
  <rect class="faint" x="9" width="7" height="7" rx="1.5" /><rect class="faint" y="9" width="7" height="7" rx="1.5" /></svg>`;

function ThemeSwitch() {
  const now = use(theme), next = themes[(themes.indexOf(now) + 1) % themes.length];
  return html`<button type="button" class="quiet theme" title=${`Colours: ${now}. Change to ${next}`} aria-label=${`Colours: ${now}. Change to ${next}`}
    onClick=${() => theme.set(next)}><${Icon} name=${now} /></button>`;
}

function Chats() {
  const all = use(chats), chosen = use(current), busy = use(running);
  const list = useRef(null);
  const choose = (id) => { current.set(id); view.set("chat"); };
  const take_away = (chat) => {
    if (!confirm(`Delete “${chat.title}”? It is kept nowhere else.`)) return;
    remove(chat.id);
    list.current?.querySelector("button")?.focus();
  };
  return html`<div ref=${list} class="chats">
    <button type="button" class="new" onClick=${begin}>
      <${Icon} name="plus" />New chat</button>
    ${all.length === 0 && html`<p class="faint-text">Chats are kept in this browser only.</p>`}
    <ul>
      ${all.map((chat) => html`<li key=${chat.id} class=${chat.id === chosen ? "chosen" : ""}>
        <button type="button" class="title" aria-current=${chat.id === chosen ? "true" : undefined} onClick=${() => choose(chat.id)}
                onDblClick=${() => { const title = prompt("A name for this chat", chat.title); if (title) rename(chat.id, title); }}>
          ${busy[chat.id] && html`<span class="dot" aria-label="is being answered" role="img"></span>`}${chat.title}</button>
        <button type="button" class="quiet" aria-label=${`Delete ${chat.title}`} title="Delete" onClick=${() => take_away(chat)}><${Icon} name="trash" /></button>
      </li>`)}
    </ul>
  </div>`;
}
