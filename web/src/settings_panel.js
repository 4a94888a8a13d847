// The settings of requests, and what the page is made of.
import {html, use} from "./html.js";
import {live} from "./live.js";
import {experts_per_token, is_valid, nothing_set, numbers, set, settings} from "./settings.js";

export function Settings() {
  const now = use(settings), {model} = use(live);
  const is_changed = Object.keys(now).some((name) => now[name] !== (nothing_set[name] ?? ""));
  return html`<form class="settings" onSubmit=${(event) => event.preventDefault()}>
    <h2 class="for-readers">Settings</h2>
    <div class="panel-head"><p class="faint-text">For the next answers. What is left empty is up to the server.</p>
      ${is_changed && html`<button type="button" class="plain" onClick=${() => settings.set(nothing_set)}>Reset</button>`}</div>
    <label class="field wide"><span class="label">System prompt</span>
      <textarea rows="4" value=${now.system} placeholder="Who the model is to be, and how it answers" onInput=${(event) => set("system", event.target.value)}></textarea></label>
    <div class="fields">
      ${numbers.map((field) => html`<${NumberField} key=${field.name} field=${field} text=${now[field.name] ?? ""} />`)}
      ${model?.experts_per_token !== 0 && html`<${NumberField} field=${{...experts_per_token, max: model?.experts ?? experts_per_token.max, placeholder: model?.experts_per_token}}
        text=${now.experts_per_token ?? ""} />`}
    </div>
    <label class="check"><input type="checkbox" checked=${now.json} onChange=${(event) => set("json", event.target.checked)} />Answer in JSON only</label>
    <details class="about"><summary>About this page</summary>
      <p>It talks to the server it came from and to nobody else. It is made with these libraries:</p>
      <pre tabindex="0">${NOTICES}</pre></details>
  </form>`;
}

function NumberField({field, text}) {
  const {name, label, unit, min, max, step, hint, placeholder} = field, valid = is_valid(field, text), note = `note-${name}`;
  return html`<div class="field">
    <label class="label" for=${name}>${label}</label>
    <input id=${name} type="number" inputmode="decimal" min=${min} max=${max} step=${step} value=${text} placeholder=${placeholder ?? "default"}
      aria-invalid=${!valid} aria-describedby=${note} onInput=${(event) => set(name, event.target.validity.badInput ? "?" : event.target.value)} />
    <p id=${note} class="hint">${valid ? hint ?? unit : `a ${step < 1 ? "number" : "whole number"} from ${min} to ${max}`}</p>
  </div>`;
}
