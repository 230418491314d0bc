// @ts-check
// Arrays in, arrays out: decoding, colours, statistics. No DOM, no network, no state.

import { COLORMAPS } from "./colormaps.js";

const OPAQUE = 0xff000000;

/** The step of the model before its first epoch. */
export const START = -1;

/**
 * @typedef {{steps: number[], shapes: number[][], data: Float32Array[], unreadable: number}} Series
 * @typedef {{label: number | null, region: [number, number, number, number] | null}} Probe
 * @typedef {{layer: string | null, target: string, quantity?: [string, number], label?: string, methods: string[],
 *   input_size: [number, number], colormap: string, scale?: string, class_names: Record<string, string>, every: number,
 *   columns: string[], probes: Probe[]}} RunInfo
 */

let halfTable = /** @type {Float32Array | null} */ (null);

/** The value of each of the 65536 half-precision numbers. */
function halves() {
  if (halfTable) return halfTable;
  halfTable = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) halfTable[bits] = fraction ? NaN : sign * Infinity;
    else if (exponent === 0) halfTable[bits] = sign * fraction * 2 ** -24;
    else halfTable[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return halfTable;
}

/**
 * Half-precision bytes as numbers.
 * @param {Uint16Array} bits
 */
export function decodeHalf(bits) {
  const table = halves();
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = table[bits[i]];
  return values;
}

/**
 * Splits a binary answer (see wire.py).
 * @param {ArrayBuffer} buffer
 * @returns {{header: any, parts: {offset: number, length: number}[]}}
 */
export function unpack(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 8 || view.getUint32(0, false) !== 0x47435431)
    throw new Error("The answer is not one of ours.");
  const begin = 8 + view.getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, begin - 8)));
  return { header, parts: header.parts.map(([offset, length]) => ({ offset: begin + offset, length })) };
}

/**
 * Maps or numbers of a run.
 * @param {ArrayBuffer} buffer
 * @returns {Series}
 */
export function decodeSeries(buffer) {
  const { header, parts } = unpack(buffer);
  const data = header.frames.map(([, bytes], i) => {
    const { offset, length } = parts[i];
    if (bytes === 2) return decodeHalf(new Uint16Array(buffer, offset, length / 2));
    return new Float32Array(buffer, offset, length / 4);
  });
  return {
    steps: header.frames.map((frame) => frame[0]),
    shapes: header.frames.map((frame) => frame.slice(2)),
    data,
    unreadable: header.unreadable,
  };
}

/**
 * Weights of a linear resize with half-pixel centres, as keras_gradcam.maps.upsample.
 * @param {number} old
 * @param {number} size
 */
export function interpolation(old, size) {
  const below = new Int32Array(size);
  const above = new Int32Array(size);
  const share = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    const position = Math.min(Math.max(((i + 0.5) * old) / size - 0.5, 0), old - 1);
    below[i] = Math.floor(position);
    above[i] = Math.min(below[i] + 1, old - 1);
    share[i] = position - below[i];
  }
  return { below, above, share };
}

/**
 * @param {Float32Array} map (h, w)
 * @param {number} h
 * @param {number} w
 * @param {number} height
 * @param {number} width
 * @returns {Float32Array} (height, width)
 */
export function upsample(map, h, w, height, width) {
  const rows = interpolation(h, height);
  const { below, above, share } = interpolation(w, width);
  const line = new Float64Array(w);
  const result = new Float32Array(height * width);
  let place = 0;
  for (let y = 0; y < height; y++) {
    const top = rows.below[y] * w;
    const bottom = rows.above[y] * w;
    const part = rows.share[y];
    for (let x = 0; x < w; x++) line[x] = map[top + x] * (1 - part) + map[bottom + x] * part;
    for (let x = 0; x < width; x++) {
      const left = line[below[x]];
      result[place++] = left + (line[above[x]] - left) * share[x];
    }
  }
  return result;
}

const tables = /** @type {Map<string, Uint8Array>} */ (new Map());

/**
 * The 256 colours of a name, inferno for names we do not know.
 * @param {string} name
 * @returns {Uint8Array} (256, 3)
 */
export function colorTable(name) {
  const known = Object.hasOwn(COLORMAPS, name) ? name : "inferno";
  let table = tables.get(known);
  if (!table) {
    table = Uint8Array.from(atob(COLORMAPS[known]), (character) => character.charCodeAt(0));
    tables.set(known, table);
  }
  return table;
}

/** @param {Float32Array} map */
function isFinite(map) {
  for (let i = 0; i < map.length; i++) if (!(Math.abs(map[i]) < Infinity)) return false;
  return true;
}

/** Values to draw: NaN counts as zero, infinity as very much, as in the renderer. @param {Float32Array} map */
export function drawable(map) {
  return isFinite(map) ? map : map.map((value) => (Number.isNaN(value) ? 0 : Math.min(Math.max(value, -3e38), 3e38)));
}

/**
 * Lays a map on a picture: opacity is `opacity` times the map's share of `top`, as keras_gradcam.render.overlay.
 * @param {Uint8ClampedArray} pixels RGBA, written to
 * @param {Uint8ClampedArray | null} picture RGBA, or null to draw the map alone, opaque
 * @param {{map: Float32Array, h: number, w: number}} cells
 * @param {{height: number, width: number}} size
 * @param {number} top
 * @param {Uint8Array} table
 * @param {number} opacity
 */
export function overlay(pixels, picture, cells, size, top, table, opacity) {
  const shares = upsample(drawable(cells.map), cells.h, cells.w, size.height, size.width);
  const scale = top > 0 && Number.isFinite(top) ? 1 / top : 1;
  // Whole pixels at a time: red is the lowest byte.
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
 * What cannot be seen from a map's colours.
 * @param {Float32Array} map
 * @returns {"" | "map is zero" | "map is not finite"}
 */
export function remark(map) {
  if (!isFinite(map)) return "map is not finite";
  return map.some((value) => value !== 0) ? "" : "map is zero";
}

/** Largest finite value, at least 0. @param {Float32Array} map */
export function peak(map) {
  let top = 0;
  for (const value of map) if (value > top && value !== Infinity) top = value;
  return top;
}

/** Ranks from 1, ties share their mean. @param {ArrayLike<number>} values */
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
 * Spearman's rank correlation; NaN where either map is constant or not finite.
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
 * Similarity of two maps; grids that differ are brought to the finer extent along each side first.
 * @param {{map: Float32Array, h: number, w: number}} a
 * @param {{map: Float32Array, h: number, w: number}} b
 */
export function similarity(a, b) {
  if (a.h === b.h && a.w === b.w) return rankCorrelation(a.map, b.map);
  const h = Math.max(a.h, b.h);
  const w = Math.max(a.w, b.w);
  return rankCorrelation(upsample(a.map, a.h, a.w, h, w), upsample(b.map, b.h, b.w, h, w));
}

/** Mean of the finite values, NaN without any. @param {number[]} values */
export function meanKnown(values) {
  const known = values.filter(Number.isFinite);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : NaN;
}

/**
 * The smallest and the largest known value.
 * @param {number[]} values
 * @returns {[number, number] | null} null without any
 */
export function extent(values) {
  const known = values.filter(Number.isFinite);
  if (!known.length) return null;
  return [known.reduce((a, b) => Math.min(a, b)), known.reduce((a, b) => Math.max(a, b))];
}

/** All numbers that occur, ascending. @param {number[][]} lists */
export function union(lists) {
  return [...new Set(lists.flat())].sort((a, b) => a - b);
}

/**
 * How many epochs there would be if none had been left out by sampling: one every `every` from first to last.
 * @param {number[]} steps ascending, of one run
 * @param {number} every
 */
export function expectedEpochs(steps, every) {
  const epochs = steps.filter((step) => step !== START);
  if (!epochs.length) return [];
  const first = Math.floor(epochs[0] / every);
  const last = Math.floor(epochs[epochs.length - 1] / every);
  const expected = Array.from({ length: Math.min(last - first + 1, 100000) }, (_, i) => (first + i) * every);
  return union([expected.filter((step) => step >= epochs[0]), epochs]);
}

/**
 * A text that fits: one line, at most `length` characters, cut in the middle.
 * @param {unknown} text
 * @param {number} [length]
 */
export function shortened(text, length = 120) {
  const characters = Array.from(
    String(text)
      .slice(0, 20000)
      .replace(/[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu, " "),
  );
  if (characters.length <= length) return characters.join("");
  const head = Math.ceil((length - 1) / 2);
  return [...characters.slice(0, head), "…", ...characters.slice(characters.length - (length - 1 - head))].join("");
}

/**
 * "0.83", "1.2e-5"; "–" for what is not known.
 * @param {number} value
 * @param {number} [needed] decimals, see `decimals`; numbers below 100 have at least two
 */
export function formatted(value, needed = 0) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const digits = size >= 100 ? needed : Math.max(needed, 2);
  if (size !== 0 && (size < 0.5 * 10 ** -digits || size >= 1e5)) return value.toExponential(1);
  return value.toFixed(digits);
}

/**
 * How many decimals tell numbers apart that go from `low` to `high`, at most four.
 * @param {number} low
 * @param {number} high
 */
export function decimals(low, high) {
  const needed = high > low ? Math.ceil(-Math.log10(high - low)) + 1 : 0;
  return Math.min(Math.max(needed, 0), 4);
}

/** @param {Uint8Array} a @param {Uint8Array} b */
export function sameBytes(a, b) {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

/** "0.83" for a share or a correlation; "–" for what is not known. @param {number} value */
export function twoDigits(value) {
  return Number.isFinite(value) ? value.toFixed(2).replace(/^-(0\.00)$/, "$1") : "–";
}
