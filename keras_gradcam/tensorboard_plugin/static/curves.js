// @ts-check
// Draws small curves as SVG. Their horizontal axis is the slider: the index of a step among all steps shown.

import { element, svg } from "./dom.js";
import { decimals, extent, formatted } from "./format.js";

const WIDTH = 1000;

/**
 * Returns an SVG path through the finite values; a missing value leaves a gap, a value between two gaps is a dot.
 * @param {[number, number][]} points (step, value)
 * @param {number[]} steps
 * @param {number} low
 * @param {number} high
 * @param {number} height
 */
export function path(points, steps, low, high, height) {
  const horizontal = new Map(
    steps.map((step, i) => [step, steps.length > 1 ? (i / (steps.length - 1)) * WIDTH : WIDTH / 2]),
  );
  const span = high - low || 1;
  let text = "";
  let drawing = false;
  for (const [step, value] of points) {
    const x = horizontal.get(step);
    if (x === undefined || !Number.isFinite(value)) {
      drawing = false;
      continue;
    }
    const y = (1 - (Math.min(Math.max(value, low), high) - low) / span) * (height - 2) + 1;
    text += `${drawing ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}${drawing ? "" : "h0"}`;
    drawing = true;
  }
  return text;
}

/**
 * Returns the limits of the vertical axis: the smallest and the largest value, apart even if they are equal.
 * @param {[number, number][][]} lines
 * @param {[number, number] | null} fixed limits to use if all values lie within
 * @returns {[number, number] | null} null without any value
 */
export function range(lines, fixed) {
  const limits = extent(lines.flat().map(([, value]) => value));
  if (!limits) return null;
  const [low, high] = limits;
  if (fixed && low >= fixed[0] && high <= fixed[1]) return fixed;
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

/**
 * Draws lines with a cursor that marks the step shown.
 * @param {{points: [number, number][], className: string}[]} lines
 * @param {number[]} steps
 * @param {[number, number]} limits
 * @param {number} height
 */
export function plot(lines, steps, limits, height) {
  const root = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${height}`,
    preserveAspectRatio: "none",
    class: "plot",
    "aria-hidden": "true",
  });
  root.style.height = `${height}px`;
  for (const { points, className } of lines) {
    root.append(svg("path", { d: path(points, steps, limits[0], limits[1], height), class: `line ${className}` }));
  }
  const cursor = svg("line", { y1: "0", y2: String(height), class: "cursor" });
  root.append(cursor);
  /** @param {number} position */
  const move = (position) => {
    const x = String(steps.length > 1 ? (position / (steps.length - 1)) * WIDTH : WIDTH / 2);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
  };
  return { root, move };
}

/**
 * Creates a chart: title, values at the cursor, limits and curves.
 * @param {{title: string, lines: {name: string, points: [number, number][], className: string}[],
 *   fixed: [number, number] | null, empty: string}} content
 * @param {number[]} steps
 * @param {(position: number) => void} onChoice called with the index of the step that was clicked
 */
export function chart(content, steps, onChoice) {
  const caption = element("figcaption", null, element("strong", null, content.title));
  const root = element("figure", { className: "chart" }, caption);
  const points = content.lines.map((line) => line.points);
  const limits = range(points, content.fixed);
  const extremes = range(points, null);
  if (!limits || !extremes) {
    root.append(element("p", { className: "empty" }, content.empty));
    return { root, move: (/** @type {number} */ _position) => {} };
  }
  const values = content.lines.map((line) => {
    const key = element("span", { className: `key ${line.className}`, dir: "auto" });
    caption.append(key);
    return { key, name: line.name, byStep: new Map(line.points) };
  });
  const { root: picture, move } = plot(content.lines, steps, limits, 72);
  const [high, low] = [limits[1], limits[0]].map((limit) =>
    element("span", { className: "limit" }, formatted(limit, decimals(...limits))),
  );
  root.append(element("div", { className: "area" }, high, low, picture));
  picture.addEventListener("pointerdown", (/** @type {any} */ event) => {
    const box = picture.getBoundingClientRect();
    const share = (event.clientX - box.left) / Math.max(box.width, 1);
    onChoice(Math.round(Math.min(Math.max(share, 0), 1) * (steps.length - 1)));
  });
  return {
    root,
    move: (/** @type {number} */ position) => {
      move(position);
      for (const { key, name, byStep } of values)
        key.textContent = `${name} ${formatted(byStep.get(steps[position]) ?? NaN, decimals(...extremes))}`.trim();
    },
  };
}
