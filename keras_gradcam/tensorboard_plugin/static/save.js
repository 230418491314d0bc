// @ts-check
// Saves the pictures on the page as one PNG file, and all epochs of a probe as a GIF.

import { runStep } from "./captions.js";
import { element } from "./dom.js";
import { epochName } from "./format.js";
import { encodeGIF } from "./gif.js";
import { besideGuided, paint } from "./paint.js";

const GAP = 8;
const LINE = 20;

/**
 * Saves all pictures of a view as one file: side by side if they are few, otherwise as a grid; each with its caption.
 * @param {HTMLElement} view
 * @param {string} name of the file, and its title
 */
export function savePictures(view, name) {
  const found = [...view.querySelectorAll("canvas")].filter((canvas) => !canvas.closest(".strip") && canvas.width > 1);
  if (!found.length) return;
  const [width, height] = [Math.max(...found.map((one) => one.width)), Math.max(...found.map((one) => one.height))];
  const columns = found.length <= 4 ? found.length : Math.ceil(Math.sqrt(found.length));
  const rows = Math.ceil(found.length / columns);
  const sheet = element("canvas", {
    width: GAP + columns * (width + GAP),
    height: LINE + GAP + rows * (height + LINE + GAP),
  });
  const context = cleared(sheet);
  context.fillText(name, GAP, LINE - 4);
  found.forEach((canvas, i) => {
    const [x, y] = [GAP + (i % columns) * (width + GAP), LINE + GAP + Math.floor(i / columns) * (height + LINE + GAP)];
    context.drawImage(canvas, x, y);
    context.fillText(captionOf(canvas), x, y + height + LINE - 6, width);
  });
  sheet.toBlob((blob) => blob && download(blob, `${name.replace(/\W+/g, "_")}.png`));
}

/** Longest side of a picture in an animation. */
const ANIMATED = 256;

/**
 * Saves all epochs of a probe as an animated GIF, its runs side by side.
 * @param {import("./paint.js").Scene} scene
 * @param {number} probe
 * @param {number} perSecond epochs per second
 */
export function saveAnimation(scene, probe, perSecond) {
  // Guided pictures would have to be fetched for each epoch.
  const look = besideGuided(scene.look);
  const runs = scene.runs.filter((run) => probe < run.probeCount);
  const canvases = runs.flatMap((run) =>
    run.sides.map((side) => ({ run, side, canvas: element("canvas", { width: 1, height: 1 }) })),
  );
  const sheet = element("canvas", null);
  const frames = scene.steps.map((step, i) => {
    for (const { run, side, canvas } of canvases)
      paint(canvas, { run, side, probe }, runStep(run, step), look, ANIMATED, () => {});
    if (i === 0) {
      sheet.width = GAP + canvases.reduce((sum, { canvas }) => sum + canvas.width + GAP, 0);
      sheet.height = 2 * LINE + Math.max(...canvases.map(({ canvas }) => canvas.height)) + GAP;
    }
    const context = cleared(sheet);
    context.fillText(epochName(step), GAP, LINE - 4);
    let x = GAP;
    for (const { run, side, canvas } of canvases) {
      context.drawImage(canvas, x, LINE);
      const name = side === run.own ? (scene.titles.get(run.name) ?? run.name) : "partner";
      context.fillText(name, x, LINE + canvas.height + LINE - 6, canvas.width);
      x += canvas.width + GAP;
    }
    return context.getImageData(0, 0, sheet.width, sheet.height).data;
  });
  const parts = encodeGIF(frames, sheet.width, sheet.height, 1 / perSecond);
  download(new Blob(parts, { type: "image/gif" }), `gradcam_probe_${probe}.gif`);
}

/**
 * Clears a canvas to white and returns its context, ready for words.
 * @param {HTMLCanvasElement} canvas
 */
function cleared(canvas) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("This browser offers no 2D canvas.");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#212121";
  context.font = "12px sans-serif";
  return context;
}

/**
 * Hands a file to the user.
 * @param {Blob} blob
 * @param {string} name
 */
function download(blob, name) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/**
 * Returns the words that stand beside a picture: its run, and its caption.
 * @param {HTMLElement} canvas
 */
function captionOf(canvas) {
  const owner = canvas.closest(".column, .large");
  const words = [".run-name, h2", ".caption"].map((selector) => owner?.querySelector(selector)?.textContent ?? "");
  return words.filter(Boolean).join("  ");
}
