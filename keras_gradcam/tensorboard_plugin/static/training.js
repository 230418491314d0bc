// @ts-check
// Fetches what Keras' own TensorBoard callback has logged beside a run: loss and accuracy by epoch.

import { fetchJSON } from "./fetch.js";

/**
 * @typedef {{word: string, train: Map<number, number>, validation: Map<number, number>}} Metric by epoch
 */

/** The metrics that are shown: what they are called, and the tags they are logged under. */
const WANTED = /** @type {const} */ ([
  ["loss", /^epoch_loss$/],
  ["accuracy", /^epoch_.*acc/],
]);

/**
 * Fetches loss and accuracy that were logged beside a run; nothing if there are none, or TensorBoard has no scalars.
 * @param {string} run such as "clean/gradcam", beside which Keras writes "clean/train" and "clean/validation"
 * @returns {Promise<Metric[]>}
 */
export async function fetchTraining(run) {
  const folder = run.replace(/gradcam$/, "");
  const tags = await fetchJSON("../scalars/tags").catch(() => ({}));
  const metrics = await Promise.all(
    WANTED.map(async ([word, pattern]) => {
      const [train, validation] = await Promise.all(
        ["train", "validation"].map((part) => fetchSeries(`${folder}${part}`, tags, pattern)),
      );
      return { word, train, validation };
    }),
  );
  return metrics.filter(({ train, validation }) => train.size || validation.size);
}

/**
 * Fetches the first series of a run whose tag fits.
 * @param {string} run
 * @param {Record<string, Record<string, unknown>>} tags by run
 * @param {RegExp} pattern
 * @returns {Promise<Map<number, number>>} value by step; of a step that was logged twice the latest
 */
async function fetchSeries(run, tags, pattern) {
  const tag = Object.hasOwn(tags, run) ? Object.keys(tags[run]).find((name) => pattern.test(name)) : undefined;
  if (tag === undefined) return new Map();
  const query = `run=${encodeURIComponent(run)}&tag=${encodeURIComponent(tag)}`;
  const points = await fetchJSON(`../scalars/scalars?${query}`).catch(() => []);
  return new Map(points.map((/** @type {number[]} */ [, step, value]) => [step, Number(value)]));
}
