// @ts-check
// What the user has chosen, and how the address holds it. No DOM.

/**
 * @typedef {"overlay" | "map" | "guided" | "picture"} View
 * @typedef {"drift" | "label" | "mass" | "wrong" | "index"} Sort
 * @typedef {"run" | "frame"} Scale
 * @typedef {"all" | "wrong" | "right" | "flipped"} Show
 * @typedef {{
 *   epoch: number | null, probe: number | null, runs: string[] | null, view: View, colors: string | null,
 *   opacity: number, scale: Scale | null, sort: Sort, filter: string, show: Show,
 *   speed: number, pinned: number | null,
 * }} State
 * epoch null: the latest; runs null: the first; colors and scale null: those that the run was logged with; pinned: the
 * epoch that others are compared with
 */

export const VIEWS = /** @type {const} */ ([
  ["overlay", "Overlay"],
  ["map", "Map"],
  ["guided", "Guided"],
  ["picture", "Picture"],
]);
export const SORTS = /** @type {const} */ ([
  ["drift", "drift"],
  ["label", "label"],
  ["mass", "mass"],
  ["wrong", "wrong first"],
  ["index", "index"],
]);
export const SHOWS = /** @type {const} */ ([
  ["all", "all"],
  ["wrong", "wrong"],
  ["right", "right"],
  ["flipped", "flipped"],
]);
export const SCALES = /** @type {const} */ ([
  ["run", "run"],
  ["frame", "frame"],
]);

/** Epochs per second. */
export const SPEEDS = [2, 5, 10, 30];
/** Runs that fit side by side. */
export const MOST_RUNS = 4;

/**
 * Returns the state of an address that says nothing.
 * @returns {State}
 */
export function defaults() {
  return {
    epoch: null,
    probe: null,
    runs: null,
    view: "overlay",
    colors: null,
    opacity: 0.75,
    scale: null,
    sort: "index",
    filter: "",
    show: "all",
    speed: 5,
    pinned: null,
  };
}

/** What the keys of this tab begin with in the address of TensorBoard. */
const OWN = "p.gradcam.";

/**
 * Returns the parts of a hash that belong to this tab: {key: value}.
 * @param {string} hash with or without "#"
 * @returns {Record<string, string>}
 */
function ownParts(hash) {
  /** @type {Record<string, string>} */
  const parts = {};
  for (const part of hash.replace(/^#/, "").split("&")) {
    const at = part.indexOf("=");
    if (at < 0 || !part.startsWith(OWN)) continue;
    try {
      parts[part.slice(OWN.length, at)] = decodeURIComponent(part.slice(at + 1));
    } catch {
      continue; // not written by this tab
    }
  }
  return parts;
}

/**
 * Reads the state out of a hash; what is missing or invalid gets its default.
 * @param {string} hash
 * @returns {State}
 */
export function fromHash(hash) {
  const parts = ownParts(hash);
  const state = defaults();
  const whole = (text) => (/^\d{1,15}$/.test(text ?? "") ? Number(text) : null);
  const epoch = (text) => (text === "start" ? -1 : whole(text));
  state.epoch = epoch(parts.epoch);
  state.pinned = epoch(parts.pinned);
  state.probe = whole(parts.probe);
  if (parts.runs) {
    try {
      state.runs = [...new Set(parts.runs.split(",").map(decodeURIComponent))].slice(0, MOST_RUNS);
    } catch {
      state.runs = null;
    }
  }
  state.view = VIEWS.find(([name]) => name === parts.view)?.[0] ?? state.view;
  state.sort = SORTS.find(([name]) => name === parts.sort)?.[0] ?? state.sort;
  state.show = SHOWS.find(([name]) => name === parts.show)?.[0] ?? state.show;
  state.scale = parts.scale === "frame" || parts.scale === "run" ? parts.scale : null;
  state.colors = parts.colors ?? null;
  const percent = whole(parts.opacity);
  if (percent !== null && percent <= 100) state.opacity = percent / 100;
  state.filter = parts.filter ?? "";
  const speed = whole(parts.speed);
  if (speed !== null && SPEEDS.includes(speed)) state.speed = speed;
  return state;
}

/**
 * Writes the state into a hash; the parts of other tabs are kept.
 * @param {string} hash
 * @param {State} state
 */
export function toHash(hash, state) {
  const kept = hash
    .replace(/^#/, "")
    .split("&")
    .filter((part) => part && !part.startsWith(OWN));
  const standard = defaults();
  const written = (/** @type {number | null} */ epoch) => (epoch === null ? null : epoch < 0 ? "start" : String(epoch));
  /** @type {Record<string, string | null>} */
  const parts = {
    epoch: written(state.epoch),
    pinned: written(state.pinned),
    probe: state.probe === null ? null : String(state.probe),
    runs: state.runs === null ? null : state.runs.map(encodeURIComponent).join(","),
    view: state.view === standard.view ? null : state.view,
    colors: state.colors,
    opacity: state.opacity === standard.opacity ? null : String(Math.round(state.opacity * 100)),
    scale: state.scale,
    sort: state.sort === standard.sort ? null : state.sort,
    filter: state.filter || null,
    show: state.show === standard.show ? null : state.show,
    speed: state.speed === standard.speed ? null : String(state.speed),
  };
  for (const [key, value] of Object.entries(parts)) {
    if (value !== null) kept.push(`${OWN}${key}=${encodeURIComponent(value)}`);
  }
  return kept.length ? `#${kept.join("&")}` : "";
}

/**
 * Returns the step to show: the chosen epoch, else the nearest earlier one, else the first.
 * @param {number[]} steps ascending
 * @param {number | null} epoch null: the latest
 */
export function shownStep(steps, epoch) {
  if (!steps.length) return null;
  if (epoch === null) return steps[steps.length - 1];
  const earlier = steps.filter((step) => step <= epoch);
  return earlier.length ? earlier[earlier.length - 1] : steps[0];
}

/**
 * Returns the runs to show: the chosen ones that exist, or else the first.
 * @param {string[]} names
 * @param {string[] | null} chosen
 */
export function shownRuns(names, chosen) {
  const existing = (chosen ?? []).filter((name) => names.includes(name)).slice(0, MOST_RUNS);
  return existing.length || chosen?.length === 0 ? existing : names.slice(0, 1);
}

/**
 * Returns the scale of the maps: the chosen one, or else that of the first run, for all runs side by side.
 * @param {{info: {scale?: string} | null}[]} runs
 * @param {Scale | null} chosen
 * @returns {Scale}
 */
export function shownScale(runs, chosen) {
  return chosen ?? (runs[0]?.info?.scale === "frame" ? "frame" : "run");
}

/**
 * Shortens the names of runs by the folder that the callback adds, unless two would become equal.
 * @param {string[]} names
 * @returns {Map<string, string>}
 */
export function runTitles(names) {
  const short = names.map((name) => name.replace(/[\\/]gradcam$/, ""));
  const unique = new Set(short).size === names.length;
  return new Map(names.map((name, i) => [name, unique ? short[i] : name]));
}
