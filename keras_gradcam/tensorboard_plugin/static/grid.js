// @ts-check
// The grid of cards, one per probe.

import { caption, labels, runStep } from "./captions.js";
import { plot } from "./curves.js";
import { element } from "./dom.js";
import { figure, places } from "./figure.js";
import { epochName, shortened, twoDigits } from "./format.js";
import { similarity } from "./maps.js";
import { unlike } from "./store.js";

/**
 * @typedef {import("./store.js").Run} Run
 * @typedef {import("./paint.js").Scene} Scene
 * @typedef {{run: Run, shot: ReturnType<typeof figure>, line: HTMLElement, similar: HTMLElement, more: HTMLElement,
 *   drift: ReturnType<typeof plot>, root: HTMLElement}} Column
 */

/** Longest side of a card's canvas, by the number of places side by side. */
const CARD_SIDE = [192, 192, 160];
/** Least width of a card, by the number of places side by side. */
const CARD_WIDTH = [176, 176, 328, 448, 560];
/** The longest side, and the width per place, of a card with more places. */
const CARD_PLACE = 128;

/**
 * Returns how many places a card fills: one or two per run.
 * @param {Run[]} runs
 */
function cardPlaces(runs) {
  return runs.reduce((sum, run) => sum + places(run), 0);
}

/**
 * Tells whether a probe is one of those to show: by what is predicted for it at a step, and by a text in its labels or
 * predictions.
 * @param {Run[]} runs
 * @param {number} step
 * @param {number} probe
 * @param {import("./state.js").Show} show
 * @param {string} wanted lower case
 */
function matches(runs, step, probe, show, wanted) {
  const predictions = runs
    .filter((run) => probe < run.probeCount)
    .map((run) => run.prediction(runStep(run, step) ?? -2, probe));
  const chosen = {
    all: () => true,
    wrong: () => predictions.some(({ wrong }) => wrong),
    right: () => predictions.some(({ name, wrong }) => name !== null && !wrong),
    flipped: () => predictions.some(({ flipped }) => flipped !== null),
  }[show]();
  const words = [...labels(runs, probe), ...predictions.map(({ name }) => name ?? "")];
  return chosen && words.some((word) => word.toLocaleLowerCase().includes(wanted));
}

/**
 * Sorts the probes and leaves out those that the filter hides.
 * @param {Run[]} runs
 * @param {{sort: import("./state.js").Sort, filter: string, show: import("./state.js").Show}} state
 * @param {number} step
 */
export function orderedProbes(runs, state, step) {
  const [first] = runs;
  if (!first) return [];
  const count = Math.max(...runs.map((run) => run.probeCount));
  const wanted = state.filter.trim().toLocaleLowerCase();
  const at = runStep(first, step) ?? step;
  const key = {
    drift: (/** @type {number} */ probe) => -first.probeDrift(probe),
    mass: (/** @type {number} */ probe) => -first.number("mass", at, probe),
    wrong: (/** @type {number} */ probe) =>
      -runs.filter((run) => run.prediction(runStep(run, step) ?? step, probe).wrong).length,
    index: (/** @type {number} */ probe) => probe,
    label: (/** @type {number} */ probe) => first.info?.probes[probe]?.label ?? NaN,
  }[state.sort];
  const rows = Array.from({ length: count }, (_, probe) => ({ probe, value: key(probe) }));
  const missingLast = (/** @type {number} */ value) => (Number.isFinite(value) ? value : Infinity);
  return rows
    .filter(({ probe }) => matches(runs, step, probe, state.show, wanted))
    .sort((a, b) => {
      const [low, high] = [missingLast(a.value), missingLast(b.value)];
      return low < high ? -1 : low > high ? 1 : a.probe - b.probe;
    })
    .map(({ probe }) => probe);
}

/**
 * Returns what the accessible name of a card says about partners.
 * @param {Scene} scene
 */
function partnerWords({ runs, look }) {
  if (!runs.some((run) => run.partner)) return "";
  return look.view === "guided" ? " and its partner, which is shown without a map" : " and its partner";
}

/**
 * Creates what a card shows of one run: picture, caption and drift curve.
 * @param {Run} run
 * @param {number} order of the run among those compared
 * @param {number} probe
 * @param {Scene} scene
 * @returns {Column}
 */
function column(run, order, probe, scene) {
  const shot = figure(run, probe, CARD_SIDE[cardPlaces(scene.runs)] ?? CARD_PLACE);
  const line = element("span", { className: "caption" });
  const more = element("span", { className: "more" });
  const drift = plot([{ points: run.curve("similarity_previous", probe), className: "" }], scene.steps, [0, 1], 20);
  const similar = element("span", { className: "spark-name" });
  similar.title = "rank correlation with the map one epoch earlier";
  const parts = [shot.root, line, similar, drift.root, more];
  const name = shortened(scene.titles.get(run.name) ?? run.name, 60);
  if (scene.runs.length > 1) {
    parts.unshift(element("span", { className: `run-name run-${order}`, dir: "auto", title: name }, name));
  }
  const root = element("span", { className: "column" }, ...parts);
  root.style.setProperty("--places", String(places(run)));
  return { run, shot, line, similar, more, drift, root };
}

/**
 * Returns what a card says of one run below the caption.
 * @param {Column} column
 * @param {number} probe
 * @param {Scene} scene
 * @param {string} difference why the run cannot be compared with the first, or ""
 * @param {number | null} flipped the epoch of the last change of the prediction
 */
function facts({ run }, probe, scene, difference, flipped) {
  const [first] = scene.runs;
  const step = scene.steps[scene.position];
  const shown = runStep(run, step);
  const texts = flipped === null ? [] : [`flipped at ${epochName(flipped)}`];
  if (shown !== null && shown !== step) texts.push(`shown: ${epochName(shown)}`);
  if (difference && probe < run.probeCount && probe < first.probeCount) {
    texts.unshift(`not compared: ${difference}`);
  } else if (run !== first && !difference) {
    const reference = first.own.grid(runStep(first, step) ?? -2, probe);
    const grid = shown === null ? null : run.own.grid(shown, probe);
    const value = grid && reference ? similarity(reference, grid) : NaN;
    texts.unshift(`${twoDigits(value)} similar to ${shortened(scene.titles.get(first.name), 40)}`);
  }
  return texts;
}

/**
 * Creates the card of a probe, with a column per run.
 * @param {number} probe
 * @param {Scene} scene
 * @param {(probe: number) => void} open
 */
function card(probe, scene, open) {
  const compared = scene.runs.length > 1;
  const [first] = scene.runs;
  const names = labels(scene.runs, probe);
  const label = names.join(" / ");
  const differences = scene.runs.map((run, i) => (i > 0 ? unlike(first, run, probe) : ""));
  // The card has one label if all runs show the same picture under the same label; otherwise each column has its own.
  const common = names.length === 1 && scene.runs.every((run, i) => probe >= run.probeCount || !differences[i]);
  const columns = scene.runs.map((run, i) => column(run, i, probe, scene));
  const button = element("button", { type: "button", className: "open" }, ...columns.map(({ root }) => root));
  button.addEventListener("click", () => open(probe));
  const title = { className: "class", dir: "auto", title: shortened(label, 300) };
  const head = element(
    "span",
    { className: "head" },
    element("span", title, compared && common ? shortened(label) : ""),
    element("span", { className: "index" }, `#${probe}`),
  );
  const root = element("article", { className: "card" }, head, button);
  root.dataset.probe = String(probe);
  root.style.setProperty("--columns", String(cardPlaces(scene.runs)));

  /** @param {Scene} now */
  function draw(now) {
    button.setAttribute("aria-label", `probe ${probe}, ${shortened(label)}${partnerWords(now)}: open`);
    columns.forEach((part, i) => {
      const { run, shot, line, similar, more, drift } = part;
      const shown = runStep(run, now.steps[now.position]);
      similar.textContent = `similarity ${twoDigits(run.number("similarity_previous", shown ?? -2, probe))}`;
      shot.draw(shown, now.look, now.redraw);
      const { flipped } = caption(line, run, shown, probe, !compared || (!common && probe < run.probeCount));
      const texts = facts(part, probe, now, differences[i], flipped);
      if (more.dataset.facts !== texts.join("\n")) {
        more.dataset.facts = texts.join("\n");
        more.replaceChildren(...texts.map((text) => element("span", { dir: "auto", title: text }, text)));
      }
      drift.move(now.position);
    });
  }
  return { root, draw };
}

/**
 * Creates the grid. Only the cards on the screen are drawn.
 * @param {(probe: number) => void} open
 */
export function gridView(open) {
  const root = element("main", { className: "grid" });
  /** @type {Map<number, ReturnType<typeof card>>} */
  let cards = new Map();
  let built = "";
  const visible = new Set();
  let scene = /** @type {Scene | null} */ (null);
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const probe = Number(/** @type {HTMLElement} */ (target).dataset.probe);
        if (isIntersecting) visible.add(probe);
        else visible.delete(probe);
        if (isIntersecting && scene) cards.get(probe)?.draw(scene);
      }
    },
    { rootMargin: "64px" },
  );

  /**
   * @param {Scene} now
   * @param {number[]} order
   */
  function update(now, order) {
    scene = now;
    const key = JSON.stringify([now.runs.map((run) => [run.name, run.revision]), now.steps, Math.max(-1, ...order)]);
    if (key !== built || order.some((probe) => !cards.has(probe))) {
      built = key;
      watcher.disconnect();
      visible.clear();
      cards = new Map(order.map((probe) => [probe, card(probe, now, open)]));
    }
    const filled = cardPlaces(now.runs);
    root.style.setProperty("--card", `${CARD_WIDTH[filled] ?? CARD_PLACE * filled}px`);
    const wanted = order.map((probe) => cards.get(probe)?.root);
    if (wanted.some((node, i) => root.children[i] !== node) || root.children.length !== wanted.length) {
      const focused = /** @type {HTMLElement | null} */ (document.activeElement);
      root.replaceChildren(.../** @type {HTMLElement[]} */ (wanted));
      if (focused && root.contains(focused)) focused.focus({ preventScroll: true });
      for (const node of wanted) if (node) watcher.observe(node);
    }
    if (!order.length)
      root.replaceChildren(element("p", { className: "empty" }, "No probe is like that: see show and filter above."));
    // Until the watcher reports for the first time every card counts as visible, so that the first frame is complete.
    draw(now, visible.size === 0);
  }

  /**
   * @param {Scene} now
   * @param {boolean} [all]
   */
  function draw(now, all = false) {
    scene = now;
    for (const [probe, { draw: drawCard }] of cards) if (all || visible.has(probe)) drawCard(now);
  }

  /** @param {number} probe */
  function focus(probe) {
    cards.get(probe)?.root.querySelector("button")?.focus();
  }
  return { root, update, draw, focus };
}
