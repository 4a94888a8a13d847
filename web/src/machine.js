// What the machine does: figures with their last minute, and the experts.
import {useMemo, useState} from "preact/hooks";
import {HeatMap, bytes_of, share_of} from "./heat_map.js";
import {html, use} from "./html.js";
import {live, looked_at} from "./live.js";
import {SmallPlot} from "./plot.js";

const units = ["B", "KiB", "MiB", "GiB", "TiB"];
function bytes(count) {
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10)), value = count / 1024 ** power;
  return `${Number(value.toPrecision(3)).toLocaleString("en")} ${units[power]}`;
}
const rate = (count) => count >= 100 ? Math.round(count).toLocaleString("en") : count ? count.toPrecision(2) : "0";
const brief = (count) => count.toLocaleString("en", {notation: count < 1e5 ? "standard" : "compact", maximumFractionDigits: 1});
const hit_rate = ({hits, misses}) => hits + misses ? hits / (hits + misses) : null;

// A figure: its name, the value in words, lines to plot, the top of the plot.
const figures = [
  {name: "Speed", value: (now) => html`<b>${rate(now.tokens_per_second)}</b> tokens/s`,
   lines: [(now) => now.tokens_per_second, (now) => now.prompt_tokens_per_second],
   more: (now) => now.prompt_tokens_per_second > 0 && `${brief(Math.round(now.prompt_tokens_per_second))} read`},
  {name: "Requests", value: (now) => html`<b>${now.running}</b> running`, lines: [(now) => now.running, (now) => now.waiting], most: () => 2,
   more: (now) => `${now.waiting} waiting`},
  {name: "Context kept", value: (now) => html`<b>${brief(now.cache_tokens_used)}</b> tokens`, lines: [(now) => now.cache_tokens_used],
   most: (now) => now.cache_tokens, more: (now) => `of ${brief(now.cache_tokens)}`},
  {name: "Memory", value: (now) => html`<b>${bytes(now.memory)}</b>`, lines: [(now) => now.memory], most: (now) => now.memory_budget || now.memory * 1.2,
   more: (now) => now.memory_budget > 0 && `of ${bytes(now.memory_budget)}`},
  {name: "Expert hits", value: (now) => hit_rate(now) === null ? html`<b>–</b>` : html`<b>${(100 * hit_rate(now)).toFixed(1)}</b> %`, lines: [hit_rate], most: () => 1,
   is_there: (now) => now.expert_slots > 0, more: (now) => `${rate(now.misses)} misses/s`},
  {name: "Disk", value: (now) => html`<b>${bytes(now.bytes_read)}</b>/s`, lines: [(now) => now.bytes_read], is_there: (now) => now.expert_slots > 0},
];

export function Machine() {
  const {model, now, history, failure} = use(live);
  return html`<div class="machine">
    <h2 class="for-readers">Machine</h2>
    ${failure && html`<p class="notice" role="status">${failure}</p>`}
    ${now ? html`<dl class="figures-list">${figures.filter(({is_there}) => !is_there || is_there(now)).map((figure) => html`<${Figure} key=${figure.name} figure=${figure} now=${now} history=${history} />`)}</dl>`
          : !failure && html`<p class="faint-text">Asking the server …</p>`}
    ${model && now?.all && model.layers.length > 0 && html`<${Experts} model=${model} now=${now} />`}
  </div>`;
}

function Figure({figure, now, history}) {
  const times = history.map((each) => each.at), values = figure.lines.map((line) => history.map(line));
  return html`<div class="figure">
    <dt>${figure.name}</dt>
    <dd class="figure-head"><span class="value">${figure.value(now)}</span><span class="more">${figure.more?.(now)}</span></dd>
    <dd><${SmallPlot} times=${times} values=${values} most=${figure.most?.(now) ?? 0} label=${`${figure.name}, the last minute`} /></dd>
  </div>`;
}

function Experts({model, now}) {
  const request = use(looked_at), [wanted, want] = useState("answer");
  const has_answer = Boolean(request && now.answer?.request === request), source = wanted === "answer" && has_answer ? "answer" : "all";
  const map = source === "answer" ? now.answer.map : now.all;
  const values = useMemo(() => bytes_of(map), [map]);
  const choices = [["answer", "This answer"], ["all", "All load"]];
  return html`<section class="experts" aria-labelledby="experts-head">
    <div class="panel-head"><h2 id="experts-head">Experts</h2>
      <div class="switch" role="group" aria-label="Whose visits are shown">
        ${choices.map(([name, label]) => html`<button type="button" key=${name} aria-pressed=${source === name} disabled=${name === "answer" && !has_answer}
          onClick=${() => want(name)}>${label}</button>`)}
      </div></div>
    <p class="faint-text">${source === "answer" ? "Visits of this answer's tokens, prompt included" : "Visits of all requests, the latest count most"}</p>
    <${HeatMap} layers=${model.layers} experts=${model.experts} values=${values}
      label=${source === "answer" ? "Experts that this answer visited, by layer" : "Load of all experts, by layer"} />
    <${Busiest} model=${model} values=${values} />
  </section>`;
}

// The map's strongest cells in words.
function Busiest({model: {layers, experts}, values}) {
  const cells = layers.flatMap((layer, row) => {
    let best = 0;
    for (let expert = 1; expert < experts; ++expert) if (values[row * experts + expert] > values[row * experts + best]) best = expert;
    return {layer, expert: best, share: share_of(values, experts, row, best)};
  }).filter(({share}) => share > 0).sort((a, b) => b.share - a.share).slice(0, 3);
  if (!cells.length) return null;
  return html`<p class="busiest">Busiest: ${cells.map(({layer, expert, share}, at) => html`${at ? ", " : ""}layer ${layer} expert ${expert} (${(100 * share).toPrecision(2)} %)`)}</p>`;
}
