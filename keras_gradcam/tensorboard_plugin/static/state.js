// @ts-check
// What the person has chosen, and how it is kept in the address. No DOM.

/**
 * @typedef {"overlay" | "map" | "guided" | "picture"} View
 * @typedef {"drift" | "label" | "mass" | "wrong" | "index"} Sort
 * @typedef {"run" | "frame"} Scale
 * @typedef {{
 *   epoch: number | null, probe: number | null, runs: string[] | null, view: View, colors: string | null,
 *   opacity: number, scale: Scale | null, sort: Sort, filter: string, speed: number,
 * }} State epoch null: the latest; runs null: the first one; colors and scale null: as the run says
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
export const SPEEDS = [2, 5, 10, 30];
export const MOST_RUNS = 4;

/** @returns {State} */
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
    speed: 5,
  };
}

const OWN = "p.gradcam.";

/**
 * The parts of a hash that are ours: {key: value}.
 * @param {string} hash with or without "#"
 * @returns {Record<string, string>}
 */
function ownParts(hash) {
  /** @type {Record<string, string>} */
  const found = {};
  for (const part of hash.replace(/^#/, "").split("&")) {
    const at = part.indexOf("=");
    if (at < 0 || !part.startsWith(OWN)) continue;
    try {
      found[part.slice(OWN.length, at)] = decodeURIComponent(part.slice(at + 1));
    } catch {
      continue; // not written by us
    }
  }
  return found;
}

/**
 * The state that a hash describes; what it does not mention, or wrongly, is the default.
 * @param {string} hash
 * @returns {State}
 */
export function fromHash(hash) {
  const parts = ownParts(hash);
  const state = defaults();
  const whole = (text) => (/^\d{1,15}$/.test(text ?? "") ? Number(text) : null);
  state.epoch = parts.epoch === "start" ? -1 : whole(parts.epoch);
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
 * A hash with our parts replaced and all others kept.
 * @param {string} hash
 * @param {State} state
 */
export function toHash(hash, state) {
  const kept = hash
    .replace(/^#/, "")
    .split("&")
    .filter((part) => part && !part.startsWith(OWN));
  const usual = defaults();
  /** @type {Record<string, string | null>} */
  const parts = {
    epoch: state.epoch === null ? null : state.epoch < 0 ? "start" : String(state.epoch),
    probe: state.probe === null ? null : String(state.probe),
    runs: state.runs === null ? null : state.runs.map(encodeURIComponent).join(","),
    view: state.view === usual.view ? null : state.view,
    colors: state.colors,
    opacity: state.opacity === usual.opacity ? null : String(Math.round(state.opacity * 100)),
    scale: state.scale,
    sort: state.sort === usual.sort ? null : state.sort,
    filter: state.filter || null,
    speed: state.speed === usual.speed ? null : String(state.speed),
  };
  for (const [key, value] of Object.entries(parts)) {
    if (value !== null) kept.push(`${OWN}${key}=${encodeURIComponent(value)}`);
  }
  return kept.length ? `#${kept.join("&")}` : "";
}

/**
 * The step that is shown: the chosen one, else the nearest earlier one, else the first; the latest without a choice.
 * @param {number[]} steps ascending
 * @param {number | null} epoch
 */
export function shownStep(steps, epoch) {
  if (!steps.length) return null;
  if (epoch === null) return steps[steps.length - 1];
  const earlier = steps.filter((step) => step <= epoch);
  return earlier.length ? earlier[earlier.length - 1] : steps[0];
}

/**
 * The runs that are shown: the chosen ones that exist, or else the first.
 * @param {string[]} names
 * @param {string[] | null} chosen
 */
export function shownRuns(names, chosen) {
  const found = (chosen ?? []).filter((name) => names.includes(name)).slice(0, MOST_RUNS);
  return found.length || chosen?.length === 0 ? found : names.slice(0, 1);
}

/**
 * The scale of the maps: the chosen one, or else that of the first run, so that runs side by side have one.
 * @param {{info: {scale?: string} | null}[]} runs
 * @param {Scale | null} chosen
 * @returns {Scale}
 */
export function shownScale(runs, chosen) {
  return chosen ?? (runs[0]?.info?.scale === "frame" ? "frame" : "run");
}

/**
 * Names of runs without the folder in which the callback writes, where they stay apart without it.
 * @param {string[]} names
 * @returns {Map<string, string>}
 */
export function runTitles(names) {
  const short = names.map((name) => name.replace(/[\\/]gradcam$/, ""));
  const unique = new Set(short).size === names.length;
  return new Map(names.map((name, i) => [name, unique ? short[i] : name]));
}
