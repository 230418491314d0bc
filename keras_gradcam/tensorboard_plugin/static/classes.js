// @ts-check
// A table that sums up the probes of each class: how many are wrong, and where the model looks on average.

import { runStep } from "./captions.js";
import { element } from "./dom.js";
import { shortened, twoDigits } from "./format.js";
import { finiteMean } from "./maps.js";

/**
 * @typedef {import("./store.js").Run} Run
 * @typedef {import("./paint.js").Scene} Scene
 */

/** The columns that are averaged: name in the table, name in the data. */
const MEANS = /** @type {const} */ ([
  ["probability", "probability"],
  ["similarity", "similarity_previous"],
  ["focus", "focus"],
  ["mass inside", "mass_inside"],
]);

/**
 * Sums up the probes of each label in a run at a step.
 * @param {Run} run
 * @param {number} step
 * @returns {{name: string, count: number, wrong: number, means: number[]}[]} in the order of the labels
 */
export function classSummaries(run, step) {
  /** @type {Map<number, number[]>} */
  const byLabel = new Map();
  for (let probe = 0; probe < run.probeCount; probe++) {
    const label = run.info?.probes[probe]?.label ?? null;
    if (label !== null) byLabel.set(label, [...(byLabel.get(label) ?? []), probe]);
  }
  return [...byLabel.entries()]
    .sort(([a], [b]) => a - b)
    .map(([, probes]) => ({
      name: run.label(probes[0]) ?? "no label",
      count: probes.length,
      wrong: probes.filter((probe) => run.prediction(step, probe).wrong).length,
      means: MEANS.map(([, column]) => finiteMean(probes.map((probe) => run.number(column, step, probe)))),
    }));
}

/** Creates the table, folded until someone opens it. */
export function classTable() {
  const body = element("div", { className: "tables" });
  const root = element("details", { className: "classes" }, element("summary", null, "Classes"), body);
  let scene = /** @type {Scene | null} */ (null);

  /** @param {Scene} now */
  function draw(now) {
    scene = now;
    if (!root.open) return;
    body.replaceChildren(...now.runs.map((run, i) => table(run, i, now)));
  }

  /**
   * Shows the table with a scene that has classes, and hides it with any other.
   * @param {Scene | null} now
   */
  function update(now) {
    root.hidden = !now || !now.runs.some((run) => classSummaries(run, -2).length > 1);
    if (now && !root.hidden) draw(now);
  }
  root.addEventListener("toggle", () => scene && draw(scene));
  return { root, update, draw };
}

/**
 * Creates the table of one run.
 * @param {Run} run
 * @param {number} order of the run among those compared
 * @param {Scene} scene
 */
function table(run, order, scene) {
  const step = runStep(run, scene.steps[scene.position]) ?? -2;
  const summaries = classSummaries(run, step);
  const shown = MEANS.map((_, i) => i).filter((i) => summaries.some(({ means }) => Number.isFinite(means[i])));
  const heads = ["class", "probes", "wrong", ...shown.map((i) => MEANS[i][0])];
  const rows = summaries.map(({ name, count, wrong, means }) => {
    const cells = [String(count), String(wrong), ...shown.map((i) => twoDigits(means[i]))];
    return element(
      "tr",
      { className: wrong ? "wrong" : "" },
      element("th", { scope: "row", dir: "auto", title: shortened(name, 300) }, shortened(name, 24)),
      ...cells.map((cell) => element("td", null, cell)),
    );
  });
  const caption = element("caption", { className: `run-name run-${order}`, dir: "auto" });
  if (scene.runs.length > 1) caption.textContent = shortened(scene.titles.get(run.name) ?? run.name, 60);
  const head = element("tr", null, ...heads.map((name) => element("th", { scope: "col" }, name)));
  return element("table", null, caption, element("thead", null, head), element("tbody", null, ...rows));
}
