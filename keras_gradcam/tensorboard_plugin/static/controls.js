// @ts-check
// The bar above and the bar below. Each control is told its value and tells what was chosen.

import { COLORMAPS } from "./colormaps.js";
import { START, shortened } from "./model.js";
import { plot, range, svg } from "./curves.js";
import { MOST_RUNS, SORTS, SPEEDS, VIEWS } from "./state.js";

/**
 * An element with properties and children; text is always text.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {Partial<HTMLElementTagNameMap[K]> | null} properties
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(name, properties, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

const ICONS = {
  previous: "M10 3 4 8l6 5z",
  next: "M6 3l6 5-6 5z",
  play: "M4 2l9 6-9 6z",
  pause: "M4 2h3v12H4zM9 2h3v12H9z",
};

/** @param {HTMLElement} button @param {keyof typeof ICONS} name */
function setIcon(button, name) {
  if (button.dataset.icon === name) return;
  button.dataset.icon = name;
  button.replaceChildren(svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }));
  button.firstChild?.appendChild(svg("path", { d: ICONS[name] }));
}

/** "start" or the number. @param {number} step */
export function epochName(step) {
  return step === START ? "start" : `epoch ${step}`;
}

/**
 * @param {string} text
 * @param {HTMLElement} control
 */
function labelled(text, control) {
  return element("label", { className: "control" }, element("span", { className: "name" }, text), control);
}

/**
 * @param {string} id
 * @param {readonly (readonly [string, string])[]} options (value, text)
 * @param {(value: any) => void} chosen
 */
function select(id, options, chosen) {
  const control = element("select", { id });
  for (const [value, text] of options) control.append(element("option", { value }, text));
  control.addEventListener("change", () => chosen(control.value));
  return control;
}

/**
 * One of a few, all visible.
 * @param {string} name
 * @param {string} legend
 * @param {readonly (readonly [string, string])[]} options
 * @param {(value: any) => void} chosen
 */
function segmented(name, legend, options, chosen) {
  const inputs = options.map(([value, text]) => {
    const input = element("input", { type: "radio", name, value });
    input.addEventListener("change", () => chosen(value));
    return { input, row: element("label", null, input, element("span", null, text)) };
  });
  const group = element("span", { className: "segmented" }, ...inputs.map(({ row }) => row));
  const root = element("fieldset", { className: "control" }, element("legend", { className: "name" }, legend), group);
  return {
    root,
    set: (/** @type {string} */ value) => inputs.forEach(({ input }) => (input.checked = input.value === value)),
  };
}

/** @param {(change: Partial<import("./state.js").State>) => void} change */
export function topBar(change) {
  const runs = element("span", { className: "runs" });
  const runsGroup = element(
    "fieldset",
    { className: "control" },
    element("legend", { className: "name" }, "runs"),
    runs,
  );
  const view = segmented("view", "view", VIEWS, (value) => change({ view: value }));
  const scale = segmented(
    "scale",
    "scale",
    [
      ["run", "run"],
      ["frame", "frame"],
    ],
    (value) => change({ scale: value }),
  );
  scale.root.title = "run: one scale per picture, its top is the run's largest value; frame: each map fills the scale";
  const names = Object.keys(COLORMAPS).map((name) => /** @type {[string, string]} */ ([name, name]));
  const colors = select("colors", [["", "as logged"], ...names], (value) => change({ colors: value || null }));
  const sort = select("sort", SORTS, (value) => change({ sort: value }));
  const opacity = element("input", { type: "range", id: "opacity", min: "0", max: "100", step: "1" });
  opacity.addEventListener("input", () => change({ opacity: Number(opacity.value) / 100 }));
  const filter = element("input", { type: "search", id: "filter", placeholder: "label", dir: "auto", maxLength: 200 });
  filter.addEventListener("input", () => change({ filter: filter.value }));
  const root = element(
    "header",
    { className: "bar top" },
    runsGroup,
    view.root,
    labelled("colours", colors),
    labelled("opacity", opacity),
    scale.root,
    labelled("sort", sort),
    labelled("filter", filter),
  );
  let drawn = "";

  /**
   * @param {import("./state.js").State} state
   * @param {{name: string, title: string}[]} all
   * @param {string[]} shown
   */
  function update(state, all, shown) {
    const now = JSON.stringify([all, shown]);
    if (now !== drawn) {
      drawn = now;
      const focused = runs.contains(document.activeElement) ? /** @type {any} */ (document.activeElement).value : null;
      runs.replaceChildren(
        ...all.map(({ name, title }) => {
          const box = element("input", { type: "checkbox", value: name, checked: shown.includes(name) });
          box.disabled = !box.checked && shown.length >= MOST_RUNS;
          box.addEventListener("change", () =>
            change({
              runs: all
                .map((run) => run.name)
                .filter((other) => (other === name ? box.checked : shown.includes(other))),
            }),
          );
          const text = element(
            "span",
            { className: "text", dir: "auto", title: shortened(name, 300) },
            shortened(title, 60),
          );
          const order = shown.indexOf(name);
          const label = element("label", { className: order < 0 ? "" : `run-${order}` }, box, text);
          if (name === focused) queueMicrotask(() => box.focus());
          return label;
        }),
      );
    }
    view.set(state.view);
    scale.set(state.scale);
    colors.value = state.colors !== null && Object.hasOwn(COLORMAPS, state.colors) ? state.colors : "";
    sort.value = state.sort;
    opacity.value = String(Math.round(state.opacity * 100));
    opacity.title = `${opacity.value} % where the map is strongest`;
    opacity.disabled = state.view !== "overlay";
    if (document.activeElement !== filter) filter.value = state.filter;
  }
  return { root, update };
}

/**
 * @param {{go: (position: number, settled: boolean) => void, step: (by: number) => void, play: () => void,
 *   speed: (speed: number) => void}} actions
 */
export function bottomBar(actions) {
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
  const epoch = element("output", { className: "epoch" });
  const slider = element("input", { type: "range", id: "epoch", min: "0", step: "1" });
  slider.setAttribute("aria-label", "epoch");
  slider.addEventListener("input", () => actions.go(Number(slider.value), false));
  slider.addEventListener("change", () => actions.go(Number(slider.value), true));
  const background = element("div", { className: "drift", title: "mean drift of the maps from epoch to epoch" });
  const status = element("span", { className: "status" });
  const root = element(
    "footer",
    { className: "bar bottom" },
    element("span", { className: "buttons" }, previous, next, play, speed),
    epoch,
    element("div", { className: "track" }, background, slider),
    status,
  );
  let drawn = "";

  /**
   * @param {number[]} steps
   * @param {{points: [number, number][], className: string}[]} drift
   * @param {string} text
   * @param {number} speedNow
   */
  function update(steps, drift, text, speedNow) {
    const now = JSON.stringify([steps, drift]);
    if (now !== drawn) {
      drawn = now;
      const limits = range(
        drift.map((line) => line.points),
        null,
      );
      background.replaceChildren(...(limits ? [plot(drift, steps, [Math.min(limits[0], 0), limits[1]], 32).root] : []));
      slider.max = String(Math.max(steps.length - 1, 0));
    }
    status.textContent = text;
    speed.value = String(speedNow);
    for (const control of [previous, next, play, slider]) control.disabled = steps.length < 2;
  }

  /**
   * @param {number[]} steps
   * @param {number} position
   * @param {boolean} playing
   */
  function move(steps, position, playing) {
    const name = steps.length ? epochName(steps[position]) : "no epoch";
    epoch.textContent = name;
    slider.value = String(position);
    slider.setAttribute("aria-valuetext", name);
    setIcon(play, playing ? "pause" : "play");
    play.title = playing ? "pause (space)" : "play (space)";
    play.setAttribute("aria-label", playing ? "pause" : "play");
  }
  return { root, update, move };
}
