// @ts-check
// Draws one probe of one run at one step on a canvas.

import { colorTable, overlay, peak, remark } from "./model.js";

/**
 * @typedef {import("./store.js").Run} Run
 * @typedef {import("./store.js").Side} Side
 * @typedef {{view: import("./state.js").View, colors: string | null, opacity: number, scale: "run" | "frame"}} Look
 */

const GREY = 128;

/**
 * The size at which a picture is drawn: small ones grow by a whole factor, large ones shrink (render.cell_size).
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
 * RGBA of a picture at its drawn size.
 * @param {ImageBitmap | null | undefined} picture
 * @param {{height: number, width: number}} size
 */
function pixelsOf(picture, size) {
  if (!picture) return new Uint8ClampedArray(size.height * size.width * 4).fill(GREY);
  const known = resized.get(picture) ?? new Map();
  resized.set(picture, known);
  let pixels = known.get(size.width);
  if (!pixels) {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, size);
    const context = context2d(canvas);
    drawPicture(context, picture, size);
    pixels = context.getImageData(0, 0, size.width, size.height).data;
    known.set(size.width, pixels);
  }
  return pixels;
}

/** @type {WeakMap<HTMLCanvasElement, ImageData>} */
const images = new WeakMap();

/**
 * The pixels that go onto a canvas, the same ones every time.
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

/** @param {HTMLCanvasElement} canvas */
function context2d(canvas) {
  // Reading back often: keep the pixels in main memory.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("This browser offers no 2D canvas.");
  return context;
}

/**
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
 * The value drawn with the strongest colour.
 * @param {Side} side
 * @param {number} step
 * @param {number} probe
 * @param {Look} look
 */
export function topOf(side, step, probe, look) {
  const cells = side.cells(step, probe);
  return look.scale === "frame" && cells ? peak(cells.map) : (side.tops[probe] ?? 0);
}

/**
 * Draws, and returns what the picture cannot say.
 * @param {HTMLCanvasElement} canvas
 * @param {{run: Run, side: Side, probe: number}} subject
 * @param {number | null} step null: the run has nothing there
 * @param {Look} look
 * @param {number} longest
 * @param {() => void} again called when something that was missing has arrived
 * @returns {string}
 */
export function paint(canvas, { run, side, probe }, step, look, longest, again) {
  const size = probeSize(run, side, probe, longest);
  if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size);
  const context = context2d(canvas);
  const picture = side.pictures[probe];
  const guided = look.view === "guided" && step !== null;
  if (guided && side === run.own) return paintGuided(context, run, step, probe, size, again);
  const plain = guided || look.view === "picture";
  const cells = step === null || plain ? null : side.cells(step, probe);
  const image = imageOf(canvas, context, size);
  if (cells) {
    const table = colorTable(look.colors ?? run.info?.colormap ?? "inferno");
    const under = look.view === "overlay" ? pixelsOf(picture, size) : null;
    overlay(image.data, under, cells, size, topOf(side, step ?? 0, probe, look), table, look.opacity);
  } else {
    image.data.set(pixelsOf(picture, size));
  }
  context.putImageData(image, 0, 0);
  if (probe >= run.probeCount) return "no such probe in this run";
  if (plain) return picture ? "" : "no picture";
  if (!cells) return "no map at this epoch";
  return remark(cells.map) || (picture || look.view === "map" ? "" : "no picture");
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Run} run
 * @param {number} step
 * @param {number} probe
 * @param {{height: number, width: number}} size
 * @param {() => void} again
 */
function paintGuided(context, run, step, probe, size, again) {
  context.fillStyle = `rgb(${GREY} ${GREY} ${GREY})`;
  context.fillRect(0, 0, size.width, size.height);
  if (!run.hasGuided(step)) return "guided maps were not logged";
  const entry = run.guided(step, again);
  if (entry.loading) return "loading";
  if (entry.error) return entry.error.startsWith("404") ? "no guided map at this epoch" : `error: ${entry.error}`;
  const picture = entry.pictures?.[probe];
  if (!picture) return "no guided map of this probe";
  drawPicture(context, picture, size);
  return "";
}
