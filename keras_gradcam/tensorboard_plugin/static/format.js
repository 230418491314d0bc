// @ts-check
// Turns numbers, names and steps into text. No DOM.

/** The step of the model before its first epoch. */
export const START = -1;

/**
 * Names a step: "start" or "epoch 12".
 * @param {number} step
 */
export function epochName(step) {
  return step === START ? "start" : `epoch ${step}`;
}

/**
 * Returns the smallest and the largest finite value.
 * @param {number[]} values
 * @returns {[number, number] | null} null if there is none
 */
export function extent(values) {
  const finite = values.filter(Number.isFinite);
  if (!finite.length) return null;
  return [finite.reduce((a, b) => Math.min(a, b)), finite.reduce((a, b) => Math.max(a, b))];
}

/**
 * Returns all numbers that occur in any of the lists, ascending.
 * @param {number[][]} lists
 */
export function union(lists) {
  return [...new Set(lists.flat())].sort((a, b) => a - b);
}

/**
 * Lists the epochs that were logged, including those that TensorBoard's sampling dropped.
 * @param {number[]} steps of one run, ascending
 * @param {number} every epochs from one logged epoch to the next
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
 * Shortens a text to one line of at most `length` characters, cut in the middle.
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
 * Formats a number: "0.83", "1.2e-5", "–" for a value that is missing.
 * @param {number} value
 * @param {number} [needed] decimals, see `decimals`; numbers below 100 get at least two
 */
export function formatted(value, needed = 0) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const digits = size >= 100 ? needed : Math.max(needed, 2);
  if (size !== 0 && (size < 0.5 * 10 ** -digits || size >= 1e5)) return value.toExponential(1);
  return value.toFixed(digits);
}

/**
 * Returns how many decimals tell numbers between `low` and `high` apart, at most four.
 * @param {number} low
 * @param {number} high
 */
export function decimals(low, high) {
  const needed = high > low ? Math.ceil(-Math.log10(high - low)) + 1 : 0;
  return Math.min(Math.max(needed, 0), 4);
}

/**
 * Formats a share or a correlation: "0.83", "–" for a value that is missing.
 * @param {number} value
 */
export function twoDigits(value) {
  return Number.isFinite(value) ? value.toFixed(2).replace(/^-(0\.00)$/, "$1") : "–";
}
