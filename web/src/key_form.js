// Asks for the API key that the server wants.
import {useState} from "preact/hooks";
import {html, use} from "./html.js";
import {give_key, key} from "./server.js";

export function KeyForm() {
  const [value, set_value] = useState(""), [remember, set_remember] = useState(false);
  const known = use(key);
  return html`<form class="notice key-form" onSubmit=${(event) => { event.preventDefault(); if (value.trim()) give_key(value.trim(), remember); }}>
    <label for="key">${known ? "The server does not know this API key. Another one:" : "This server asks for an API key."}</label>
    <div class="row">
      <input id="key" type="password" autocomplete="off" spellcheck=${false} value=${value} onInput=${(event) => set_value(event.target.value)} />
      <button type="submit" class="primary">Use it</button>
    </div>
    <label class="check"><input type="checkbox" checked=${remember} onChange=${(event) => set_remember(event.target.checked)} />Remember it in this browser</label>
  </form>`;
}
