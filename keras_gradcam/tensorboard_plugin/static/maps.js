// @ts-check
// The arithmetic of maps: upsampling, colours, overlays, similarity. Arrays in, arrays out; no DOM.

import { COLORMAPS } from "./colormaps.js";

/**
 * From where to where a map lies along height and width of the picture, as shares of them.
 * @typedef {[[number, number], [number, number]]} Spans
 *
 * A map on its own grid; without spans it lies over the whole picture.
 * @typedef {{map: Float32Array, h: number, w: number, spans?: Spans | null}} Grid
 */

/** @type {Spans} */
const WHOLE = [
  [0, 1],
  [0, 1],
];

const OPAQUE = 0xff000000;

/**
 * Returns the weights of a linear resize with half-pixel centres, like keras_gradcam.grids.upsample; pixels from `first`
 * up to `end` lie on the map.
 * @param {number} old
 * @param {number} size
 * @param {[number, number]} [span]
 */
export function interpolation(old, size, span = [0, 1]) {
  const below = new Int32Array(size);
  const above = new Int32Array(size);
  const share = new Float64Array(size);
  const start = span[0] * size;
  const length = span[1] * size - start;
  let [first, end] = [size, 0];
  for (let i = 0; i < size; i++) {
    const inside = i + 0.5 - start;
    const position = Math.min(Math.max((inside * old) / length - 0.5, 0), old - 1);
    below[i] = Math.floor(position);
    above[i] = Math.min(below[i] + 1, old - 1);
    share[i] = position - below[i];
    if (inside >= 0 && inside <= length) {
      first = Math.min(first, i);
      end = i + 1;
    }
  }
  return { below, above, share, first, end };
}

/**
 * Upsamples a map bilinearly to its place on a picture; zero elsewhere.
 * @param {Float32Array} map (h, w)
 * @param {number} h
 * @param {number} w
 * @param {number} height
 * @param {number} width
 * @param {Spans | null} [spans]
 * @returns {Float32Array} (height, width)
 */
export function upsample(map, h, w, height, width, spans) {
  const [down, across] = spans ?? WHOLE;
  const rows = interpolation(h, height, down);
  const { below, above, share, first, end } = interpolation(w, width, across);
  const line = new Float64Array(w);
  const result = new Float32Array(height * width);
  for (let y = rows.first; y < rows.end; y++) {
    const upper = rows.below[y] * w;
    const lower = rows.above[y] * w;
    const part = rows.share[y];
    for (let x = 0; x < w; x++) line[x] = map[upper + x] * (1 - part) + map[lower + x] * part;
    for (let x = first; x < end; x++) {
      const left = line[below[x]];
      result[y * width + x] = left + (line[above[x]] - left) * share[x];
    }
  }
  return result;
}

const tables = /** @type {Map<string, Uint8Array>} */ (new Map());

/**
 * Returns the 256 colours of a colour map, those of inferno for an unknown name.
 * @param {string} name
 * @returns {Uint8Array} (256, 3)
 */
export function colorTable(name) {
  const key = Object.hasOwn(COLORMAPS, name) ? name : "inferno";
  let table = tables.get(key);
  if (!table) {
    table = Uint8Array.from(atob(COLORMAPS[key]), (character) => character.charCodeAt(0));
    tables.set(key, table);
  }
  return table;
}

/**
 * Tells whether all values are finite.
 * @param {Float32Array} map
 */
function isFinite(map) {
  for (let i = 0; i < map.length; i++) if (!(Math.abs(map[i]) < Infinity)) return false;
  return true;
}

/**
 * Replaces NaN by zero and infinity by a very large number, like the Python renderer.
 * @param {Float32Array} map
 */
export function drawable(map) {
  return isFinite(map) ? map : map.map((value) => (Number.isNaN(value) ? 0 : Math.min(Math.max(value, -3e38), 3e38)));
}

/**
 * Lays a map on a picture; the opacity is `opacity` times the map's share of `vmax`, like
 * keras_gradcam.drawing.pixels.overlay.
 * @param {Uint8ClampedArray} pixels RGBA, written to
 * @param {Uint8ClampedArray | null} picture RGBA, or null to draw the map alone, opaque
 * @param {Grid} grid
 * @param {{height: number, width: number}} size
 * @param {number} vmax the value of the strongest colour
 * @param {Uint8Array} table 256 colours
 * @param {number} opacity
 */
export function overlay(pixels, picture, grid, size, vmax, table, opacity) {
  const shares = upsample(drawable(grid.map), grid.h, grid.w, size.height, size.width, grid.spans);
  const scale = vmax > 0 && Number.isFinite(vmax) ? 1 / vmax : 1;
  // Write whole pixels; red is the lowest byte.
  const target = new Uint32Array(pixels.buffer, pixels.byteOffset, shares.length);
  const source = picture && new Uint32Array(picture.buffer, picture.byteOffset, shares.length);
  for (let i = 0; i < shares.length; i++) {
    let share = shares[i] * scale;
    share = share > 1 ? 1 : share > 0 ? share : 0;
    if (source !== null && share === 0) {
      target[i] = source[i] | OPAQUE;
      continue;
    }
    const color = 3 * ((share * 255 + 0.5) | 0);
    const alpha = source === null ? 1 : opacity * share;
    const under = source === null ? 0 : source[i];
    const red = under & 255;
    const green = (under >> 8) & 255;
    const blue = (under >> 16) & 255;
    target[i] =
      (red + (table[color] - red) * alpha + 0.5) |
      ((green + (table[color + 1] - green) * alpha + 0.5) << 8) |
      ((blue + (table[color + 2] - blue) * alpha + 0.5) << 16) |
      OPAQUE;
  }
}

/**
 * Returns what the colours of a map cannot show.
 * @param {Float32Array} map
 * @returns {"" | "map is zero" | "map is not finite"}
 */
export function warning(map) {
  if (!isFinite(map)) return "map is not finite";
  return map.some((value) => value !== 0) ? "" : "map is zero";
}

/**
 * Returns the largest finite value, at least 0.
 * @param {Float32Array} map
 */
export function peak(map) {
  let largest = 0;
  for (const value of map) if (value > largest && value !== Infinity) largest = value;
  return largest;
}

/**
 * Ranks values from 1; ties share their mean rank.
 * @param {ArrayLike<number>} values
 */
export function ranks(values) {
  const order = Array.from({ length: values.length }, (_, i) => i).sort((a, b) => values[a] - values[b]);
  const result = new Float64Array(values.length);
  for (let i = 0; i < order.length;) {
    let end = i + 1;
    while (end < order.length && values[order[end]] === values[order[i]]) end++;
    for (let k = i; k < end; k++) result[order[k]] = (i + end + 1) / 2;
    i = end;
  }
  return result;
}

/**
 * Returns Spearman's rank correlation, NaN if either map is constant or not finite.
 * @param {ArrayLike<number>} a
 * @param {ArrayLike<number>} b
 */
export function rankCorrelation(a, b) {
  const n = a.length;
  if (n !== b.length || n === 0) return NaN;
  for (let i = 0; i < n; i++) if (!Number.isFinite(a[i]) || !Number.isFinite(b[i])) return NaN;
  const ra = ranks(a);
  const rb = ranks(b);
  const mean = (n + 1) / 2;
  let ab = 0;
  let aa = 0;
  let bb = 0;
  for (let i = 0; i < n; i++) {
    ab += (ra[i] - mean) * (rb[i] - mean);
    aa += (ra[i] - mean) ** 2;
    bb += (rb[i] - mean) ** 2;
  }
  return aa > 0 && bb > 0 ? Math.min(Math.max(ab / Math.sqrt(aa * bb), -1), 1) : NaN;
}

/**
 * Returns the rank correlation of two maps, upsampled to the finer grid first if their grids differ.
 * @param {Grid} a
 * @param {Grid} b
 */
export function similarity(a, b) {
  const placedAlike = JSON.stringify(a.spans ?? WHOLE) === JSON.stringify(b.spans ?? WHOLE);
  if (placedAlike && a.h === b.h && a.w === b.w) return rankCorrelation(a.map, b.map);
  const h = Math.max(a.h, b.h);
  const w = Math.max(a.w, b.w);
  const [first, second] = [a, b].map(({ map, spans, ...grid }) =>
    upsample(map, grid.h, grid.w, h, w, placedAlike ? null : spans),
  );
  return rankCorrelation(first, second);
}

/**
 * Returns the mean of the finite values, NaN if there is none.
 * @param {number[]} values
 */
export function finiteMean(values) {
  const finite = values.filter(Number.isFinite);
  return finite.length ? finite.reduce((sum, value) => sum + value, 0) / finite.length : NaN;
}
