// @ts-check
// The words below the pictures of a probe: its label, what the model predicts, its score.

import { element } from "./dom.js";
import { formatted, shortened } from "./format.js";
import { shownStep } from "./state.js";

/** @typedef {import("./store.js").Run} Run */

/** Longest name in a caption, in characters. */
const LONGEST_NAME = 40;
/** A label of at most this many characters is never cut by the prediction beside it. */
const SHORT_LABEL = 8;

/**
 * Returns the step of a run that is shown at a step of the slider; null before the first step of the run.
 * @param {Run} run
 * @param {number} step
 */
export function runStep(run, step) {
  const shown = shownStep(run.steps, step);
  return shown === null || shown > step ? null : shown;
}

/**
 * Returns the different labels that the runs give a probe.
 * @param {Run[]} runs
 * @param {number} probe
 */
export function labels(runs, probe) {
  const having = runs.filter((run) => probe < run.probeCount);
  return [...new Set(having.map((run) => run.label(probe) ?? "no label"))];
}

/**
 * Writes the label, the prediction and the score of a probe into a line.
 * @param {HTMLElement} line
 * @param {Run} run
 * @param {number | null} step
 * @param {number} probe
 * @param {boolean} withLabel
 * @returns the prediction
 */
export function caption(line, run, step, probe, withLabel) {
  const prediction = run.prediction(step ?? -2, probe);
  const label = run.label(probe) ?? "no label";
  const score = formatted(prediction.score, run.scoreDecimals.get(step ?? -2));
  const content = JSON.stringify([label, prediction, score, withLabel]);
  if (line.dataset.content === content) return prediction;
  line.dataset.content = content;
  const parts = [];
  if (withLabel) {
    const className = label.length <= SHORT_LABEL ? "class label short" : "class label";
    const properties = { className, dir: "auto", title: shortened(label, 300) };
    parts.push(element("span", properties, shortened(label, LONGEST_NAME)));
  }
  if (prediction.name === null && Number.isFinite(prediction.score)) {
    if (withLabel) parts.push(element("span", { className: "arrow" }, "·"));
    parts.push(element("span", { className: "p" }, `${run.quantity.name} ${score}`));
  } else {
    const name = element("span", { className: "class", dir: "auto", title: shortened(prediction.name ?? "", 300) });
    name.textContent = prediction.name === null ? "no prediction" : shortened(prediction.name, LONGEST_NAME);
    parts.push(element("span", { className: "arrow" }, "→"), name);
    if (prediction.name !== null) {
      parts.push(element("span", { className: "p" }, formatted(prediction.probability)));
    }
  }
  if (prediction.wrong) parts.push(element("strong", { className: "wrong-word" }, "wrong"));
  line.replaceChildren(...parts);
  line.classList.toggle("wrong", prediction.wrong);
  return prediction;
}
