// @ts-check
// Draws one probe of one run at one step on a canvas.

import { colorTable, difference, overlay, peak, remark } from "./maps.js";

/**
 * @typedef {import("./store.js").Run} Run
 * @typedef {import("./store.js").Side} Side
 * @typedef {{view: import("./state.js").View, colors: string | null, opacity: number, scale: "run" | "frame",
 *   pinned?: number | null, against?: number}} Look `pinned` is compared with the others, `against` subtracted
 * @typedef {{runs: Run[], titles: Map<string, string>, steps: number[], position: number, look: Look,
 *   redraw: () => void}} Scene what is on the screen: `position` is the index of the step shown
 */

const GREY = 128;

/**
 * Returns the size at which a picture is drawn: a small one grows by a whole factor, a large one shrinks, like
 * keras_gradcam.drawing.pixels.cell_size.
 * @param {number} height
 * @param {number} width
 * @param {number} longest
 */
export function cellSize(height, width, longest) {
  const side = Math.max(height, width);
  if (side <= longest) {
    const factor = Math.floor(longest / side);
    return { height: height * factor, width: width * factor };
  }
  const shrink = (/** @type {number} */ length) => Math.max(1, Math.round((length * longest) / side));
  return { height: shrink(height), width: shrink(width) };
}

/**
 * Returns the size at which a probe is drawn.
 * @param {Run} run
 * @param {Side} side
 * @param {number} probe
 * @param {number} longest
 */
export function probeSize(run, side, probe, longest) {
  const picture = side.pictures[probe];
  const [height, width] = picture ? [picture.height, picture.width] : (run.info?.input_size ?? [1, 1]);
  return cellSize(height, width, longest);
}

/** @type {WeakMap<ImageBitmap, Map<number, Uint8ClampedArray>>} */
const resized = new WeakMap();

/**
 * Returns the RGBA values of a picture at its drawn size.
 * @param {ImageBitmap | null | undefined} picture
 * @param {{height: number, width: number}} size
 */
function pixelsOf(picture, size) {
  if (!picture) return new Uint8ClampedArray(size.height * size.width * 4).fill(GREY);
  const bySize = resized.get(picture) ?? new Map();
  resized.set(picture, bySize);
  let pixels = bySize.get(size.width);
  if (!pixels) {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, size);
    const context = context2d(canvas);
    drawPicture(context, picture, size);
    pixels = context.getImageData(0, 0, size.width, size.height).data;
    bySize.set(size.width, pixels);
  }
  return pixels;
}

/** @type {WeakMap<HTMLCanvasElement, ImageData>} */
const images = new WeakMap();

/**
 * Returns the pixels of a canvas to draw into; the same array at every call, so that nothing is allocated per frame.
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasRenderingContext2D} context
 * @param {{height: number, width: number}} size
 */
function imageOf(canvas, context, size) {
  let image = images.get(canvas);
  if (!image || image.width !== size.width || image.height !== size.height) {
    image = context.createImageData(size.width, size.height);
    images.set(canvas, image);
  }
  return image;
}

/**
 * Returns the drawing context of a canvas.
 * @param {HTMLCanvasElement} canvas
 */
function context2d(canvas) {
  // The pixels are read back often, so keep them in main memory.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("This browser offers no 2D canvas.");
  return context;
}

/**
 * Draws a picture without a map.
 * @param {CanvasRenderingContext2D} context
 * @param {ImageBitmap} picture
 * @param {{height: number, width: number}} size
 */
function drawPicture(context, picture, size) {
  context.imageSmoothingEnabled = size.width < picture.width;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, size.width, size.height);
}

/**
 * Replaces the view "guided" by "overlay", where guided pictures stand beside it or cannot be had.
 * @param {Look} look
 * @returns {Look}
 */
export function besideGuided(look) {
  return look.view === "guided" ? { ...look, view: "overlay" } : look;
}

/**
 * Returns the value that is drawn with the strongest colour.
 * @param {Side} side
 * @param {number} step
 * @param {number} probe
 * @param {Look} look
 */
export function vmaxOf(side, step, probe, look) {
  const grid = side.grid(step, probe);
  return look.scale === "frame" && grid ? peak(grid.map) : (side.vmax[probe] ?? 0);
}

/**
 * Draws a probe and returns a note about what the picture cannot show.
 * @param {HTMLCanvasElement} canvas
 * @param {{run: Run, side: Side, probe: number}} subject
 * @param {number | null} step null: the run has no data yet
 * @param {Look} look
 * @param {number} longest
 * @param {() => void} redraw called when data that were missing have arrived
 * @returns {string}
 */
export function paint(canvas, { run, side, probe }, step, look, longest, redraw) {
  const size = probeSize(run, side, probe, longest);
  if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size);
  const context = context2d(canvas);
  const picture = side.pictures[probe];
  const guided = look.view === "guided" && step !== null;
  if (guided && side === run.own) return paintGuided(context, run, step, probe, size, redraw);
  const plain = guided || look.view === "picture";
  const grid = step === null || plain ? null : side.grid(step, probe);
  const image = imageOf(canvas, context, size);
  const vmax = vmaxOf(side, step ?? 0, probe, look);
  const other = look.against === undefined ? null : side.grid(look.against, probe);
  if (look.against !== undefined) {
    if (grid && other) difference(image.data, pixelsOf(picture, size), grid, other, size, vmax);
    else image.data.set(pixelsOf(picture, size));
  } else if (grid) {
    const table = colorTable(look.colors ?? run.info?.colormap ?? "inferno");
    const under = look.view === "overlay" ? pixelsOf(picture, size) : null;
    overlay(image.data, under, grid, size, vmax, table, look.opacity);
  } else {
    image.data.set(pixelsOf(picture, size));
  }
  context.putImageData(image, 0, 0);
  if (probe >= run.probeCount) return "no such probe in this run";
  if (plain) return picture ? "" : "no picture";
  if (!grid || (look.against !== undefined && !other)) return "no map at this epoch";
  if (look.against !== undefined) return "";
  return remark(grid.map, vmax) || (picture || look.view === "map" ? "" : "no picture");
}

/**
 * Draws the guided picture of a probe and returns a note if there is none.
 * @param {CanvasRenderingContext2D} context
 * @param {Run} run
 * @param {number} step
 * @param {number} probe
 * @param {{height: number, width: number}} size
 * @param {() => void} redraw
 */
function paintGuided(context, run, step, probe, size, redraw) {
  context.fillStyle = `rgb(${GREY} ${GREY} ${GREY})`;
  context.fillRect(0, 0, size.width, size.height);
  if (!run.hasGuided(step)) return "guided maps were not logged";
  const { picture, error, loading } = run.guided(step, probe, redraw);
  if (loading) return "loading";
  if (error) return error.startsWith("404") ? "no guided map at this epoch" : `error: ${error}`;
  if (!picture) return "no guided map of this probe";
  drawPicture(context, picture, size);
  return "";
}
