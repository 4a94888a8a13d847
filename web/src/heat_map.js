// Experts by layer: one cell each, the busier the further along the scale. A row is a layer.
import {useEffect, useRef, useState} from "preact/hooks";
import {css_of, scales} from "./colours.js";
import {html} from "./html.js";
import {is_dark, is_still, on_theme} from "./theme.js";

const kTallest = 320, kTallestRow = 24, kFlattestRow = 3;  // pixels
const kEase = 180;                                         // milliseconds from one map to the next

// The bytes of a map are 255 * sqrt(visits / the most visits of a cell), layer after layer.
export function bytes_of(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

// What part of its layer's visits a cell has had, 0 to 1.
export function share_of(values, experts, row, expert) {
  let all = 0;
  for (let each = 0; each < experts; ++each) all += values[row * experts + each] ** 2;
  return all ? values[row * experts + expert] ** 2 / all : 0;
}

const percent = (share) => `${(100 * share).toPrecision(2)} %`;

export function HeatMap({layers, experts, values, label}) {
  const canvas = useRef(null), drawing = useRef(null), [cell, set_cell] = useState(null);
  useEffect(() => {
    drawing.current = new Drawing(canvas.current);
    const resized = new ResizeObserver(() => drawing.current.draw());
    resized.observe(canvas.current);
    const end_theme = on_theme(() => drawing.current.draw());
    return () => { resized.disconnect(); end_theme(); drawing.current.end(); };
  }, []);
  useEffect(() => drawing.current.show(layers.length, experts, values), [layers, experts, values]);
  useEffect(() => drawing.current.mark(cell), [cell]);

  const at = ({offsetX, offsetY, target}) => [
    Math.min(layers.length - 1, Math.max(0, Math.floor(offsetY / target.clientHeight * layers.length))),
    Math.min(experts - 1, Math.max(0, Math.floor(offsetX / target.clientWidth * experts))),
  ];
  const on_key = (event) => {
    const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    if (event.key === "Escape") set_cell(null);
    if (!step) return;
    event.preventDefault();
    const [row, expert] = cell ?? [0, -1];
    set_cell([Math.min(layers.length - 1, Math.max(0, row + step[0])), Math.min(experts - 1, Math.max(0, expert + step[1]))]);
  };
  const row_height = Math.min(kTallestRow, Math.max(kFlattestRow, Math.floor(kTallest / layers.length)));
  const most = layers.reduce((most, _, row) => {
    for (let expert = 0; expert < experts; ++expert) if (values[row * experts + expert] === 255) return Math.max(most, share_of(values, experts, row, expert));
    return most;
  }, 0);
  return html`<figure class="heat">
    <div class="heat-frame">
      <span class="axis rows" aria-hidden="true"><span>${layers[0]}</span><span>${layers.length > 2 && "layer"}</span><span>${layers.at(-1)}</span></span>
      <canvas ref=${canvas} class="heat-map" tabindex="0" role="application" aria-roledescription="heat map" aria-label=${label} aria-describedby="heat-cell"
        style=${{height: `${row_height * layers.length}px`}} onPointerMove=${(event) => set_cell(at(event))} onPointerDown=${(event) => set_cell(at(event))}
        onPointerLeave=${() => set_cell(null)} onKeyDown=${on_key} onFocus=${() => set_cell(cell ?? [0, 0])} onBlur=${() => set_cell(null)}></canvas>
      <span class="axis columns" aria-hidden="true"><span>0</span><span>expert</span><span>${experts - 1}</span></span>
    </div>
    <output id="heat-cell" class="heat-cell" aria-live="polite">${cell
      ? html`<b>Layer ${layers[cell[0]]}, expert ${cell[1]}</b> ${describe(share_of(values, experts, ...cell), experts)}`
      : "Point at a cell, or move with the arrow keys."}</output>
    <${Legend} most=${most} />
  </figure>`;
}

const describe = (share, experts) => share ? `${percent(share)} of the layer's visits, ${(share * experts).toPrecision(2)} times an even share` : "not visited";

function Legend({most}) {
  const bar = useRef(null);
  useEffect(() => {
    const draw = () => {
      const context = bar.current.getContext("2d");
      (is_dark() ? scales.dark : scales.light).forEach((colour, at) => {
        context.fillStyle = css_of(colour);
        context.fillRect(at, 0, 1, 1);
      });
    };
    draw();
    return on_theme(draw);
  }, []);
  return html`<figcaption class="legend"><canvas ref=${bar} width="256" height="1" aria-hidden="true"></canvas>
    <span class="axis columns"><span>no visits</span><span>${most ? percent(most / 4) : ""}</span><span>${most ? percent(most) : "most"}</span></span></figcaption>`;
}

// Draws maps on a canvas, and the way from one to the next.
class Drawing {
  #frame = 0;
  constructor(canvas) { this.canvas = canvas; }

  show(rows, columns, values) {
    const is_alike = this.values?.length === values.length;
    this.from = is_alike ? this.shown : Float32Array.from(values);
    Object.assign(this, {rows, columns, values, shown: Float32Array.from(this.from), start: performance.now()});
    cancelAnimationFrame(this.#frame);
    this.#step();
  }

  mark(cell) {
    this.cell = cell;
    this.draw();
  }

  #step() {
    const part = is_still() ? 1 : Math.min(1, (performance.now() - this.start) / kEase);
    for (let at = 0; at < this.values.length; ++at) this.shown[at] = this.from[at] + (this.values[at] - this.from[at]) * part;
    this.draw();
    if (part < 1) this.#frame = requestAnimationFrame(() => this.#step());
  }

  draw() {
    if (!this.values) return;
    const {canvas, rows, columns} = this, scale = devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const colours = is_dark() ? scales.dark : scales.light;
    // Where cells are wide enough there is a gap between them.
    const gap_x = width / columns > 5 * scale ? scale : 0, gap_y = height / rows > 5 * scale ? scale : 0;
    for (let row = 0; row < rows; ++row) {
      const top = Math.round(row * height / rows), bottom = Math.round((row + 1) * height / rows) - gap_y;
      for (let column = 0; column < columns; ++column) {
        const left = Math.round(column * width / columns), right = Math.round((column + 1) * width / columns) - gap_x;
        context.fillStyle = css_of(colours[Math.round(this.shown[row * columns + column])]);
        context.fillRect(left, top, Math.max(right - left, 1), bottom - top);
      }
    }
    if (this.cell) this.#outline(context, width, height, scale);
  }

  #outline(context, width, height, scale) {
    const [row, column] = this.cell, {rows, columns} = this;
    context.lineWidth = 2 * scale;
    context.strokeStyle = getComputedStyle(this.canvas).color;
    context.strokeRect(column * width / columns, row * height / rows, width / columns, height / rows);
  }

  end() { cancelAnimationFrame(this.#frame); }
}
