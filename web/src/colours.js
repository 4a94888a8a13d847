// A scale of colours whose steps look even: straight lines in OKLab (B. Ottosson, "A perceptual color space for image
// processing", 2020, https://bottosson.github.io/posts/oklab/), with lightness as the first of its three numbers.
const stops = {
  light: [[0.955, 0.010, 250], [0.80, 0.105, 195], [0.56, 0.135, 235], [0.30, 0.140, 285]],
  dark: [[0.235, 0.020, 265], [0.44, 0.120, 285], [0.68, 0.125, 215], [0.93, 0.135, 115]],
};

const lab_of = ([light, chroma, hue]) => [light, chroma * Math.cos(hue * Math.PI / 180), chroma * Math.sin(hue * Math.PI / 180)];

function rgb_of([light, a, b]) {
  const l = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3;
  return [4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
          -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
          -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s].map((linear) => {
    const value = linear <= 0.0031308 ? 12.92 * linear : 1.055 * linear ** (1 / 2.4) - 0.055;
    return Math.round(255 * Math.min(1, Math.max(0, value)));
  });
}

// 256 colours as [r, g, b]. Lightness runs straight from end to end; the stops say where it is which hue.
function scale_of(named) {
  const points = named.map(lab_of), first = points[0][0], last = points.at(-1)[0];
  return Array.from({length: 256}, (_, at) => {
    const light = first + (last - first) * at / 255;
    const passed = points.filter(([l]) => first < last ? l <= light : l >= light).length;
    const next = Math.min(Math.max(1, passed), points.length - 1);
    const [from, to] = [points[next - 1], points[next]], part = (light - from[0]) / (to[0] - from[0]);
    return rgb_of([light, from[1] + (to[1] - from[1]) * part, from[2] + (to[2] - from[2]) * part]);
  });
}

export const scales = {light: scale_of(stops.light), dark: scale_of(stops.dark)};
export const css_of = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
