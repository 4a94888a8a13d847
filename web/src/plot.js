// The last minute of one or two figures, as a small plot.
import {useEffect, useRef} from "preact/hooks";
import Plot from "uplot";
import {html} from "./html.js";
import {on_theme} from "./theme.js";

const kHeight = 33, kSeconds = 60;

// `values` are the plot's lines, each a number for each of `times`; the first is filled. `most` is the top if nothing exceeds it.
export function SmallPlot({times, values, most = 0, label}) {
  const box = useRef(null), plot = useRef(null);
  useEffect(() => {
    const colour = (name) => () => getComputedStyle(box.current).getPropertyValue(name);
    const line = (at) => ({stroke: colour(at ? "--second" : "--accent"), width: 1.5, points: {show: false}, fill: at ? undefined : colour("--accent-wash")});
    plot.current = new Plot({
      width: box.current.clientWidth || 200, height: kHeight, padding: [2, 0, 0, 0], legend: {show: false}, cursor: {show: false}, axes: [{show: false}, {show: false}],
      scales: {
        x: {time: false, range: (_, _least, last) => [last - kSeconds, last]},
        y: {range: (self, _, top) => [0, Math.max(top ?? 0, self.most) * 1.05 || 1]},
      },
      series: [{}, ...values.map((_, at) => line(at))],
    }, null, box.current);
    plot.current.most = most;
    const resized = new ResizeObserver(() => plot.current.setSize({width: box.current.clientWidth, height: kHeight}));
    resized.observe(box.current);
    const end_theme = on_theme(() => plot.current.redraw());
    return () => { resized.disconnect(); end_theme(); plot.current.destroy(); };
  }, [values.length]);
  useEffect(() => {
    plot.current.most = most;
    plot.current.setData([times, ...values]);
  });
  return html`<div ref=${box} class="plot" role="img" aria-label=${label}></div>`;
}
