// @ts-check
// The bar at the top and the bar at the bottom. Each is given its values and reports what the user chooses.

import { COLORMAPS } from "./colormaps.js";
import { plot, range } from "./curves.js";
import { element, labelled, segmented, select, setIcon } from "./dom.js";
import { epochName, formatted, shortened } from "./format.js";
import { colorTable } from "./maps.js";
import { MOST_RUNS, SCALES, SHOWS, SORTS, SPEEDS, VIEWS } from "./state.js";

/** @typedef {import("./state.js").State} State */

/**
 * Creates the check boxes of the runs.
 * @param {(names: string[]) => void} onChoice
 */
function runSelector(onChoice) {
  const boxes = element("span", { className: "runs" });
  const legend = element("legend", { className: "name" }, "runs");
  const root = element("fieldset", { className: "control" }, legend, boxes);
  let drawn = "";

  /**
   * @param {{name: string, title: string}[]} all
   * @param {string[]} shown
   */
  function update(all, shown) {
    const content = JSON.stringify([all, shown]);
    if (content === drawn) return;
    drawn = content;
    const focused = boxes.contains(document.activeElement) ? /** @type {any} */ (document.activeElement).value : null;
    const names = all.map((run) => run.name);
    const label = (/** @type {{name: string, title: string}} */ { name, title }) => {
      const box = element("input", { type: "checkbox", value: name, checked: shown.includes(name) });
      box.disabled = !box.checked && shown.length >= MOST_RUNS;
      box.addEventListener("change", () =>
        onChoice(names.filter((other) => (other === name ? box.checked : shown.includes(other)))),
      );
      const properties = { className: "text", dir: "auto", title: shortened(name, 300) };
      const order = shown.indexOf(name);
      if (name === focused) queueMicrotask(() => box.focus());
      return element(
        "label",
        { className: order < 0 ? "" : `run-${order}` },
        box,
        element("span", properties, shortened(title, 60)),
      );
    };
    boxes.replaceChildren(...all.map(label));
  }
  return { root, update };
}

/**
 * Creates the bar at the top: what is shown, and how.
 * @param {(change: Partial<State>) => void} change
 */
export function topBar(change) {
  const runs = runSelector((names) => change({ runs: names }));
  const view = segmented("view", "view", VIEWS, (value) => change({ view: value }));
  const scale = segmented("scale", "scale", SCALES, (value) => change({ scale: value }));
  scale.root.title =
    "run: one scale per picture, up to the largest value of the run; frame: each map on a scale of its own";
  const names = Object.keys(COLORMAPS).map((name) => /** @type {[string, string]} */ ([name, name]));
  const colors = select("colors", [["", "as logged"], ...names], (value) => change({ colors: value || null }));
  const sort = select("sort", SORTS, (value) => change({ sort: value }));
  const opacity = element("input", { type: "range", id: "opacity", min: "0", max: "100", step: "1" });
  opacity.addEventListener("input", () => change({ opacity: Number(opacity.value) / 100 }));
  const filter = element("input", { type: "search", id: "filter", dir: "auto", maxLength: 200 });
  filter.placeholder = "label, class";
  const show = select("show", SHOWS, (value) => change({ show: value }));
  filter.addEventListener("input", () => change({ filter: filter.value }));
  const root = element(
    "header",
    { className: "bar top" },
    runs.root,
    view.root,
    labelled("colours", colors),
    labelled("opacity", opacity),
    scale.root,
    labelled("sort", sort),
    labelled("show", show),
    labelled("filter", filter),
  );

  /**
   * @param {State} state
   * @param {{name: string, title: string}[]} all
   * @param {string[]} shown
   */
  function update(state, all, shown) {
    runs.update(all, shown);
    view.set(state.view);
    scale.set(state.scale ?? "run");
    colors.value = state.colors !== null && Object.hasOwn(COLORMAPS, state.colors) ? state.colors : "";
    sort.value = state.sort;
    show.value = state.show;
    opacity.value = String(Math.round(state.opacity * 100));
    opacity.title = `${opacity.value} % where the map is strongest`;
    opacity.disabled = state.view !== "overlay";
    if (document.activeElement !== filter) filter.value = state.filter;
  }
  return { root, update };
}

/**
 * Returns the colours of a colour map as a CSS gradient.
 * @param {string} colormap
 */
function gradient(colormap) {
  const table = colorTable(colormap);
  const stops = Array.from({ length: 16 }, (_, i) => `rgb(${table.subarray(51 * i, 51 * i + 3).join(" ")})`);
  return `linear-gradient(90deg, ${stops.join(", ")})`;
}

/**
 * Creates the buttons that move through the epochs.
 * @param {{step: (by: number) => void, play: () => void, speed: (speed: number) => void}} actions
 */
function playButtons(actions) {
  const previous = element("button", { type: "button", title: "previous epoch (left arrow)" });
  const next = element("button", { type: "button", title: "next epoch (right arrow)" });
  const play = element("button", { type: "button", className: "play" });
  setIcon(previous, "previous");
  setIcon(next, "next");
  previous.setAttribute("aria-label", "previous epoch");
  next.setAttribute("aria-label", "next epoch");
  previous.addEventListener("click", () => actions.step(-1));
  next.addEventListener("click", () => actions.step(1));
  play.addEventListener("click", () => actions.play());
  const speed = select(
    "speed",
    SPEEDS.map((value) => /** @type {[string, string]} */ ([String(value), `${value}/s`])),
    (value) => actions.speed(Number(value)),
  );
  speed.setAttribute("aria-label", "epochs per second");
  return { previous, next, play, speed };
}

/**
 * Creates the bar at the bottom: the slider of the epochs and what plays them.
 * @param {{go: (position: number, settled: boolean) => void, step: (by: number) => void, play: () => void,
 *   speed: (speed: number) => void, pin: () => void, save: () => void,
 *   animate: () => void}} actions
 */
export function bottomBar(actions) {
  const { previous, next, play, speed } = playButtons(actions);
  const epoch = element("output", { className: "epoch" });
  const figures = element("span", { className: "figures" });
  figures.title = "loss and accuracy of the first run, in training / validation; the dashed line is the loss";
  const slider = element("input", { type: "range", id: "epoch", min: "0", step: "1" });
  slider.setAttribute("aria-label", "epoch");
  slider.addEventListener("input", () => actions.go(Number(slider.value), false));
  slider.addEventListener("change", () => actions.go(Number(slider.value), true));
  const background = element("div", {
    className: "drift",
    title: "drift: 1 - similarity to the previous epoch, mean over the probes",
  });
  const status = element("span", { className: "status" });
  const pin = element("button", { type: "button", className: "pin" }, "Compare");
  pin.addEventListener("click", () => actions.pin());
  const save = element("button", { type: "button", title: "save the pictures of this epoch as one PNG" }, "Save");
  save.addEventListener("click", () => actions.save());
  const gif = element("button", { type: "button", title: "save all epochs of this probe as an animated GIF" }, "GIF");
  gif.addEventListener("click", () => actions.animate());
  const colors = element("span", { className: "colors" });
  const meaning = "colours, from zero to the peak of the scale";
  const legend = element("span", { className: "legend", title: meaning }, "0", colors, "peak");
  const root = element(
    "footer",
    { className: "bar bottom" },
    element("span", { className: "buttons" }, previous, next, play, speed),
    element("span", { className: "now" }, epoch, figures),
    element("div", { className: "track" }, background, slider),
    pin,
    save,
    gif,
    legend,
    status,
  );
  let drawn = "";
  /** @type {import("./training.js").Metric[]} */
  let training = [];

  /**
   * @param {number[]} steps
   * @param {{points: [number, number][], className: string}[]} drift
   * @param {string} text
   * @param {State} state
   * @param {string} colormap
   * @param {import("./training.js").Metric[]} metrics of the first run
   */
  function update(steps, drift, text, state, colormap, metrics) {
    training = metrics;
    const loss = metrics.find(({ word }) => word === "loss");
    const losses = [...(loss?.train.size ? loss.train : (loss?.validation ?? []))];
    const content = JSON.stringify([steps, drift, losses]);
    if (content !== drawn) {
      drawn = content;
      const points = drift.map((line) => line.points);
      const limits = range(points, null);
      const lossLimits = range([losses], null);
      background.replaceChildren(
        ...(lossLimits ? [plot([{ points: losses, className: "loss" }], steps, lossLimits, 32).root] : []),
        ...(limits ? [plot(drift, steps, [Math.min(limits[0], 0), limits[1]], 32).root] : []),
      );
      slider.max = String(Math.max(steps.length - 1, 0));
    }
    status.textContent = text;
    speed.value = String(state.speed);
    for (const control of [previous, next, play, slider, pin]) control.disabled = steps.length < 2;
    save.disabled = !steps.length;
    gif.hidden = state.probe === null;
    const isPinned = state.pinned !== null;
    pin.textContent = isPinned ? `vs ${epochName(state.pinned ?? 0)}` : "Compare";
    pin.title = isPinned ? "stop comparing" : "compare the other epochs of a probe with this one";
    pin.setAttribute("aria-pressed", String(isPinned));
    colors.style.background = gradient(colormap);
  }

  /**
   * @param {number[]} steps
   * @param {number} position
   * @param {boolean} playing
   */
  function move(steps, position, playing) {
    const name = steps.length ? epochName(steps[position]) : "no epoch";
    epoch.textContent = name;
    figures.replaceChildren(
      ...training.map(({ word, train, validation }) => {
        const values = [train, validation].filter(({ size }) => size).map((series) => series.get(steps[position]));
        return element("span", null, `${word} ${values.map((value) => formatted(value ?? NaN)).join(" / ")}`);
      }),
    );
    slider.value = String(position);
    slider.setAttribute("aria-valuetext", name);
    setIcon(play, playing ? "pause" : "play");
    play.title = playing ? "pause (space)" : "play (space)";
    play.setAttribute("aria-label", playing ? "pause" : "play");
  }
  return { root, update, move };
}
