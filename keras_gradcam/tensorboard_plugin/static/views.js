// @ts-check
// The grid of probes, and what stands in its place when there is nothing to show.

import { element, epochName } from "./controls.js";
import { plot } from "./curves.js";
import { figure, places } from "./figure.js";
import { formatted, shortened, similarity, twoDigits } from "./model.js";
import { shownStep } from "./state.js";
import { unlike } from "./store.js";

/**
 * @typedef {import("./store.js").Run} Run
 * @typedef {import("./paint.js").Look} Look
 * @typedef {{runs: Run[], titles: Map<string, string>, steps: number[], position: number, look: Look,
 *   again: () => void}} Scene
 */

/** Longest name in a caption, in characters. */
const CAPTION = 40;
/** Longest side of a card's canvas, by the places beside each other. */
const CARD_SIDE = [192, 192, 160];
/** Least width of a card, likewise. */
const CARD_WIDTH = [176, 176, 328, 448, 560];
/** Both where there are more places. */
const CARD_PLACE = 128;

/** The places that a card fills. @param {Run[]} runs */
function cardPlaces(runs) {
  return runs.reduce((sum, run) => sum + places(run), 0);
}

/**
 * The step of a run that is shown at a position of the slider; null before the run's first.
 * @param {Run} run
 * @param {number} step
 */
export function runStep(run, step) {
  const shown = shownStep(run.steps, step);
  return shown === null || shown > step ? null : shown;
}

/** What the runs call a probe, each name once. @param {Run[]} runs @param {number} probe */
export function labels(runs, probe) {
  const known = runs.filter((run) => probe < run.probeCount);
  return [...new Set(known.map((run) => run.label(probe) ?? "no label"))];
}

/**
 * The order of the probes, without those that the filter hides.
 * @param {Run[]} runs
 * @param {{sort: import("./state.js").Sort, filter: string}} state
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
  const last = (/** @type {number} */ value) => (Number.isFinite(value) ? value : Infinity);
  return rows
    .filter(({ probe }) => labels(runs, probe).some((label) => label.toLocaleLowerCase().includes(wanted)))
    .sort((a, b) => (last(a.value) < last(b.value) ? -1 : last(a.value) > last(b.value) ? 1 : a.probe - b.probe))
    .map(({ probe }) => probe);
}

/**
 * Fills a line with what the model says of a probe.
 * @param {HTMLElement} line
 * @param {Run} run
 * @param {number | null} step
 * @param {number} probe
 * @param {boolean} withLabel
 */
export function caption(line, run, step, probe, withLabel) {
  const said = run.prediction(step ?? -2, probe);
  const label = run.label(probe) ?? "no label";
  const score = formatted(said.score, run.scoreDecimals.get(step ?? -2));
  const now = JSON.stringify([label, said, score, withLabel]);
  if (line.dataset.said === now) return said;
  line.dataset.said = now;
  const parts = [];
  if (withLabel) {
    const className = label.length <= 8 ? "class label short" : "class label";
    parts.push(element("span", { className, dir: "auto", title: shortened(label, 300) }, shortened(label, CAPTION)));
  }
  if (said.name === null && Number.isFinite(said.score)) {
    if (withLabel) parts.push(element("span", { className: "arrow" }, "·"));
    parts.push(element("span", { className: "p" }, `${run.quantity.name} ${score}`));
  } else {
    const name = element("span", { className: "class", dir: "auto", title: shortened(said.name ?? "", 300) });
    name.textContent = said.name === null ? "no prediction" : shortened(said.name, CAPTION);
    parts.push(element("span", { className: "arrow" }, "→"), name);
    if (said.name !== null) parts.push(element("span", { className: "p" }, formatted(said.probability)));
  }
  if (said.wrong) parts.push(element("strong", { className: "wrong-word" }, "wrong"));
  line.replaceChildren(...parts);
  line.classList.toggle("wrong", said.wrong);
  return said;
}

/** What a card's name says of partners. @param {Scene} scene */
function partnerWords({ runs, look }) {
  if (!runs.some((run) => run.partner)) return "";
  return look.view === "guided" ? " and its partner, which is shown plain" : " and its partner";
}

/** The grid. @param {(probe: number) => void} open */
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
   * @param {number} probe
   * @param {Scene} now
   */
  function card(probe, now) {
    const compared = now.runs.length > 1;
    const filled = cardPlaces(now.runs);
    const [first] = now.runs;
    const names = labels(now.runs, probe);
    const label = names.join(" / ");
    const apart = now.runs.map((run, i) => (i > 0 ? unlike(first, run, probe) : ""));
    // One name over all pictures, unless it is not the name of all of them or they are not the same.
    const common = names.length === 1 && now.runs.every((run, i) => probe >= run.probeCount || !apart[i]);
    const columns = now.runs.map((run, i) => {
      const shot = figure(run, probe, CARD_SIDE[filled] ?? CARD_PLACE);
      const line = element("span", { className: "said" });
      const more = element("span", { className: "more" });
      const drift = plot([{ points: run.curve("similarity_previous", probe), className: "" }], now.steps, [0, 1], 20);
      const parts = [shot.root, line, drift.root, more];
      const name = shortened(now.titles.get(run.name) ?? run.name, 60);
      if (compared) parts.unshift(element("span", { className: `run-name run-${i}`, dir: "auto", title: name }, name));
      const root = element("span", { className: "column" }, ...parts);
      root.style.setProperty("--places", String(places(run)));
      return { run, shot, line, more, drift, root };
    });
    const button = element("button", { type: "button", className: "open" }, ...columns.map((column) => column.root));
    button.addEventListener("click", () => open(probe));
    const head = element(
      "span",
      { className: "head" },
      element(
        "span",
        { className: "class", dir: "auto", title: shortened(label, 300) },
        compared && common ? shortened(label) : "",
      ),
      element("span", { className: "index" }, `#${probe}`),
    );
    const article = element("article", { className: "card" }, head, button);
    article.dataset.probe = String(probe);
    article.style.setProperty("--columns", String(filled));

    /** @param {Scene} at */
    function draw(at) {
      const step = at.steps[at.position];
      const reference = first.own.cells(runStep(first, step) ?? -2, probe);
      button.setAttribute("aria-label", `probe ${probe}, ${shortened(label)}${partnerWords(at)}: open`);
      columns.forEach(({ run, shot, line, more, drift }, i) => {
        const shown = runStep(run, step);
        shot.draw(shown, at.look, at.again);
        const said = caption(line, run, shown, probe, !compared || (!common && probe < run.probeCount));
        const facts = said.flipped === null ? [] : [`flipped at ${epochName(said.flipped)}`];
        if (shown !== null && shown !== step) facts.push(`shown: ${epochName(shown)}`);
        if (apart[i] && probe < run.probeCount && probe < first.probeCount) {
          facts.unshift(`not compared: ${apart[i]}`);
        } else if (i > 0 && !apart[i]) {
          const cells = shown === null ? null : run.own.cells(shown, probe);
          const alike = cells && reference ? similarity(reference, cells) : NaN;
          facts.unshift(`${twoDigits(alike)} similar to ${shortened(at.titles.get(first.name), 40)}`);
        }
        if (more.dataset.facts !== facts.join("\n")) {
          more.dataset.facts = facts.join("\n");
          more.replaceChildren(...facts.map((fact) => element("span", { dir: "auto", title: fact }, fact)));
        }
        drift.move(at.position);
      });
    }
    return { root: article, draw };
  }

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
      cards = new Map(order.map((probe) => [probe, card(probe, now)]));
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
      root.replaceChildren(element("p", { className: "empty" }, "No label contains the filter's text."));
    // Before the first report of the watcher everything counts as visible, so that the first frame is complete.
    draw(now, visible.size === 0);
  }

  /**
   * @param {Scene} now
   * @param {boolean} [all]
   */
  function draw(now, all = false) {
    scene = now;
    for (const [probe, one] of cards) if (all || visible.has(probe)) one.draw(now);
  }

  /** @param {number} probe */
  function focus(probe) {
    cards.get(probe)?.root.querySelector("button")?.focus();
  }
  return { root, update, draw, focus };
}

/** Empty cards while the first data are on their way. */
export function skeleton() {
  const cards = Array.from({ length: 8 }, () =>
    element("div", { className: "card skeleton" }, element("div", null), element("span", null)),
  );
  const root = element("main", { className: "grid" }, ...cards);
  root.setAttribute("aria-busy", "true");
  root.setAttribute("aria-label", "loading");
  return root;
}

/** What to write to have something to see. */
export function noData() {
  const code = [
    "from keras_gradcam import GuidedGradCAMCallback",
    'callback = GuidedGradCAMCallback((images, labels), log_dir="logs/run1")',
    "model.fit(x, y, epochs=20, callbacks=[callback])",
  ];
  return element(
    "main",
    { className: "message" },
    element("h1", null, "No Grad-CAM data yet"),
    element("p", null, "No run in this log directory holds maps. Three lines of Python write them:"),
    element("pre", null, code.join("\n")),
    element("p", { className: "faint" }, "This page looks for new data every few seconds."),
  );
}

/** @param {string} text */
export function hint(text) {
  return element("main", { className: "message" }, element("p", null, text));
}

/** Errors, each with a way to try again. @param {() => void} retry */
export function errorList(retry) {
  const root = element("div", { className: "errors" });
  root.setAttribute("role", "alert");
  let drawn = "";
  return {
    root,
    /** @param {string[]} texts */
    update(texts) {
      if (JSON.stringify(texts) === drawn) return;
      drawn = JSON.stringify(texts);
      root.replaceChildren(
        ...texts.map((text) => {
          const button = element("button", { type: "button" }, "Retry");
          button.addEventListener("click", retry);
          return element("p", { className: "error" }, element("span", { dir: "auto" }, shortened(text, 400)), button);
        }),
      );
    },
  };
}
