// @ts-check
// The pictures of a probe side by side: its own, and its partner's where the probes are pairs.

import { element } from "./controls.js";
import { paint, probeSize } from "./paint.js";

/**
 * @typedef {import("./store.js").Run} Run
 * @typedef {import("./store.js").Side} Side
 */

/** Width for a height of one. @param {Run} run @param {Side} side @param {number} probe */
function aspect(run, side, probe) {
  const { height, width } = probeSize(run, side, probe, 256);
  return width / height;
}

/**
 * How many places of a grid the figures of a run fill: pairs fill two, unless the pictures of people standing fit one.
 * @param {Run} run
 */
export function places(run) {
  const width = run.sides.reduce((sum, side) => sum + aspect(run, side, 0), 0);
  return run.partner && width > 1.25 ? 2 : 1;
}

/**
 * All pictures of a figure have one height, and so have figures beside each other.
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
    // Shares of the width; in all they must be more than one to fill it.
    const share = 100 * aspect(run, side, probe);
    root.style.flexGrow = String(share);
    return { side, canvas, note, root, share };
  });
  const root = element("span", { className: "figure" }, ...pictures.map((picture) => picture.root));
  root.style.flexGrow = String(pictures.reduce((sum, { share }) => sum + share, 0));

  /**
   * @param {number | null} step
   * @param {import("./paint.js").Look} look
   * @param {() => void} again
   */
  function draw(step, look, again) {
    for (const { side, canvas, note } of pictures)
      note.textContent = paint(canvas, { run, side, probe }, step, look, longest, again);
  }
  return { root, canvas: pictures[0].canvas, draw };
}
