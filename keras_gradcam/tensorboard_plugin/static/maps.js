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
 * Returns the weights of a linear resize with half-pixel centres, like keras_gradcam.grids.upsample; pixels from
 * `first` up to `end` lie on the map.
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
 * Returns, for 256 shares, the weights of the picture and of its grey, and the map's own part of a pixel, like
 * keras_gradcam.drawing.overlays.overlay. The picture is grey where the opacity is a quarter or more.
 * @param {Uint8Array} table 256 colours
 * @param {number} opacity
 */
function blending(table, opacity) {
  const kept = new Float64Array(256);
  const greyed = new Float64Array(256);
  const tinted = new Float64Array(768);
  for (let i = 0; i < 256; i++) {
    const alpha = (opacity * i) / 255;
    const grey = Math.min(1, 4 * alpha);
    kept[i] = (1 - alpha) * (1 - grey);
    greyed[i] = (1 - alpha) * grey;
    for (let channel = 0; channel < 3; channel++) tinted[3 * i + channel] = alpha * table[3 * i + channel];
  }
  return { kept, greyed, tinted };
}

/**
 * Lays a map on a picture and encloses what is above half of the map's maximum with a line, like
 * keras_gradcam.drawing.overlays.overlay.
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
  const { kept, greyed, tinted } = blending(table, opacity);
  let top = 0;
  for (let i = 0; i < shares.length; i++) {
    let share = shares[i] * scale;
    share = share > 1 ? 1 : share > 0 ? share : 0;
    shares[i] = share;
    if (share > top) top = share;
    const index = (share * 255 + 0.5) | 0;
    const color = 3 * index;
    if (source === null) {
      target[i] = table[color] | (table[color + 1] << 8) | (table[color + 2] << 16) | OPAQUE;
      continue;
    }
    const under = source[i];
    if (index === 0) {
      target[i] = under | OPAQUE;
      continue;
    }
    const red = under & 255;
    const green = (under >> 8) & 255;
    const blue = (under >> 16) & 255;
    const keep = kept[index];
    const grey = greyed[index] * (0.299 * red + 0.587 * green + 0.114 * blue) + 0.5;
    target[i] =
      (red * keep + grey + tinted[color]) |
      ((green * keep + grey + tinted[color + 1]) << 8) |
      ((blue * keep + grey + tinted[color + 2]) << 16) |
      OPAQUE;
  }
  if (source !== null && top > 0 && opacity > 0) enclose(target, shares, size, top);
}

/**
 * Draws a line around what is at least half of the maximum, white inside and black outside: one pixel on either side,
 * as Python draws it on pictures of up to 768 pixels, which is more than any here has.
 * @param {Uint32Array} target
 * @param {Float32Array} shares
 * @param {{height: number, width: number}} size
 * @param {number} top
 */
function enclose(target, shares, { height, width }, top) {
  const level = 0.4999 * top;
  const inside = new Uint8Array(shares.length);
  for (let i = 0; i < shares.length; i++) inside[i] = shares[i] >= level ? 1 : 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0, i = y * width; x < width; x++, i++) {
      const own = inside[i];
      if (
        (x > 0 && inside[i - 1] !== own) ||
        (x + 1 < width && inside[i + 1] !== own) ||
        (y > 0 && inside[i - width] !== own) ||
        (y + 1 < height && inside[i + width] !== own)
      )
        target[i] = own ? 0xffffffff : OPAQUE;
    }
  }
}

const MORE = [230, 97, 1];
const LESS = [44, 123, 182];

/**
 * Lays the difference of two maps on a grey picture: orange where the first is stronger, blue where the second is.
 * @param {Uint8ClampedArray} pixels RGBA, written to
 * @param {Uint8ClampedArray} picture RGBA
 * @param {Grid} first
 * @param {Grid} second
 * @param {{height: number, width: number}} size
 * @param {number} vmax the difference that is drawn with the strongest colour
 */
export function difference(pixels, picture, first, second, size, vmax) {
  const [a, b] = [first, second].map((grid) =>
    upsample(drawable(grid.map), grid.h, grid.w, size.height, size.width, grid.spans),
  );
  const scale = vmax > 0 && Number.isFinite(vmax) ? 1 / vmax : 1;
  for (let i = 0; i < a.length; i++) {
    const share = Math.min(Math.max((a[i] - b[i]) * scale, -1), 1);
    const color = share > 0 ? MORE : LESS;
    const alpha = 0.85 * Math.abs(share);
    const grey = 0.299 * picture[4 * i] + 0.587 * picture[4 * i + 1] + 0.114 * picture[4 * i + 2];
    for (let channel = 0; channel < 3; channel++) pixels[4 * i + channel] = grey + (color[channel] - grey) * alpha;
    pixels[4 * i + 3] = 255;
  }
}

/** A map whose maximum is a smaller share of its scale is called faint. */
const FAINT = 0.25;

/**
 * Returns what the colours of a map cannot show, like keras_gradcam.drawing.overlays.remark.
 * @param {Float32Array} map
 * @param {number} [vmax] the value of the strongest colour
 */
export function remark(map, vmax = 0) {
  if (!isFinite(map)) return "map is not finite";
  if (!map.some((value) => value !== 0)) return "map is zero";
  const share = vmax > 0 ? peak(map) / vmax : 0;
  if (share <= 0 || share >= FAINT) return "";
  return share >= 0.01 ? `peak ${(100 * share).toFixed(0)} % of scale` : "peak below 1 % of scale";
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
