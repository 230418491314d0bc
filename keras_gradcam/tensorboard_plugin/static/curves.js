// @ts-check
// Small curves as SVG. All of them share one horizontal axis: the position of a step among the steps of the slider.

import { decimals, extent, formatted } from "./model.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 1000;

/** @param {string} name @param {Record<string, string>} attributes */
export function svg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/**
 * Path through the known values; missing ones leave a gap, a lone one is a dot.
 * @param {[number, number][]} points (step, value)
 * @param {number[]} steps
 * @param {number} low
 * @param {number} high
 * @param {number} height
 */
export function path(points, steps, low, high, height) {
  const place = new Map(
    steps.map((step, i) => [step, steps.length > 1 ? (i / (steps.length - 1)) * WIDTH : WIDTH / 2]),
  );
  const span = high - low || 1;
  let text = "";
  let drawing = false;
  for (const [step, value] of points) {
    const x = place.get(step);
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
 * Smallest and largest known value, widened where they are equal.
 * @param {[number, number][][]} lines
 * @param {[number, number] | null} fixed
 * @returns {[number, number] | null} null without any value
 */
export function range(lines, fixed) {
  const known = extent(lines.flat().map(([, value]) => value));
  if (!known) return null;
  const [low, high] = known;
  if (fixed && low >= fixed[0] && high <= fixed[1]) return fixed;
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

/**
 * A picture of lines with a cursor.
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
 * A curve with a title, limits and the values at the cursor.
 * @param {{title: string, lines: {name: string, points: [number, number][], className: string}[],
 *   fixed: [number, number] | null, empty: string}} content
 * @param {number[]} steps
 * @param {(position: number) => void} chosen called when the person points at a step
 */
export function chart(content, steps, chosen) {
  const root = document.createElement("figure");
  root.className = "chart";
  const caption = document.createElement("figcaption");
  const title = document.createElement("strong");
  title.textContent = content.title;
  caption.append(title);
  root.append(caption);
  const points = content.lines.map((line) => line.points);
  const limits = range(points, content.fixed);
  const known = range(points, null);
  if (!limits || !known) {
    const empty = document.createElement("p");
    empty.className = "empty";
    empty.textContent = content.empty;
    root.append(empty);
    return { root, move: (/** @type {number} */ _position) => {} };
  }
  const values = content.lines.map((line) => {
    const key = document.createElement("span");
    key.className = `key ${line.className}`;
    key.dir = "auto";
    caption.append(key);
    return { key, name: line.name, byStep: new Map(line.points) };
  });
  const { root: picture, move } = plot(content.lines, steps, limits, 72);
  const area = document.createElement("div");
  area.className = "area";
  const [high, low] = [limits[1], limits[0]].map((limit) => {
    const mark = document.createElement("span");
    mark.className = "limit";
    mark.textContent = formatted(limit, decimals(...limits));
    return mark;
  });
  area.append(high, low, picture);
  picture.addEventListener("pointerdown", (/** @type {any} */ event) => {
    const box = picture.getBoundingClientRect();
    const share = (event.clientX - box.left) / Math.max(box.width, 1);
    chosen(Math.round(Math.min(Math.max(share, 0), 1) * (steps.length - 1)));
  });
  root.append(area);
  return {
    root,
    move: (/** @type {number} */ position) => {
      move(position);
      for (const { key, name, byStep } of values)
        key.textContent = `${name} ${formatted(byStep.get(steps[position]) ?? NaN, decimals(...known))}`.trim();
    },
  };
}
