// @ts-check
// The picture of a probe, beside that of its partner if it has one.

import { element } from "./dom.js";
import { paint, probeSize } from "./paint.js";

/**
 * @typedef {import("./store.js").Run} Run
 * @typedef {import("./store.js").Side} Side
 */

/**
 * Returns the width of a picture divided by its height.
 * @param {Run} run
 * @param {Side} side
 * @param {number} probe
 */
function aspect(run, side, probe) {
  const { height, width } = probeSize(run, side, probe, 256);
  return width / height;
}

/**
 * Returns how many places of the grid the figures of a run fill: pairs fill two, narrow ones (standing persons) one.
 * @param {Run} run
 */
export function places(run) {
  const width = run.sides.reduce((sum, side) => sum + aspect(run, side, 0), 0);
  return run.partner && width > 1.25 ? 2 : 1;
}

/**
 * Creates a figure. All its pictures have the same height, and so have figures side by side.
 * @param {Run} run
 * @param {number} probe
 * @param {number} longest side of a canvas
 * @param {Side[]} [sides]
 */
export function figure(run, probe, longest, sides = run.sides) {
  const pictures = sides.map((side) => {
    const canvas = element("canvas", { width: 1, height: 1 });
    const note = element("span", { className: "note" });
    const root = element("span", { className: "picture" }, canvas, note);
    if (run.partner) root.title = side === run.own ? "probe" : "partner";
    // The pictures share the width in proportion; the sum must exceed one, or they would not fill it.
    const share = 100 * aspect(run, side, probe);
    root.style.flexGrow = String(share);
    return { side, canvas, note, root, share };
  });
  const root = element("span", { className: "figure" }, ...pictures.map((picture) => picture.root));
  root.style.flexGrow = String(pictures.reduce((sum, { share }) => sum + share, 0));

  /**
   * @param {number | null} step
   * @param {import("./paint.js").Look} look
   * @param {() => void} redraw
   */
  function draw(step, look, redraw) {
    for (const { side, canvas, note } of pictures)
      note.textContent = paint(canvas, { run, side, probe }, step, look, longest, redraw);
  }
  return { root, canvas: pictures[0].canvas, draw };
}
