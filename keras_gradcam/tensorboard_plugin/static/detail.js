// @ts-check
// One probe in detail: large pictures, guided pictures, curves, and the filmstrip of all epochs.

import { caption, labels, runStep } from "./captions.js";
import { chart } from "./curves.js";
import { element } from "./dom.js";
import { figure, places } from "./figure.js";
import { epochName, formatted, shortened } from "./format.js";
import { remark } from "./maps.js";
import { besideGuided, vmaxOf } from "./paint.js";

/**
 * @typedef {import("./store.js").Run} Run
 * @typedef {import("./paint.js").Scene} Scene
 */

/** Longest side of the large pictures, of one run and of several, and of those in the filmstrip, in pixels. */
const LARGE = 384;
const LARGE_OF_SEVERAL = 256;
const STRIP = 56;

/**
 * Explains why a probe has no similarity to the first map.
 * @param {Run} run
 * @param {number} probe
 */
function noFirst(run, probe) {
  const grid = run.own.grid(run.own.maps.steps[0], probe);
  const why = grid && (remark(grid.map) || (grid.map.every((value) => value === grid.map[0]) && "map is flat"));
  return why ? `no similarity: the first ${why}` : "no similarity was logged";
}

/**
 * Returns the contents of the charts of a probe, each with the curves of all runs.
 * @param {Scene} scene
 * @param {number} probe
 */
function charts(scene, probe) {
  const several = scene.runs.length > 1;
  const title = (/** @type {Run} */ run) => (several ? `${shortened(scene.titles.get(run.name), 24)}` : "");
  const lines = (/** @type {string} */ column) =>
    scene.runs.map((run, i) => ({
      name: title(run),
      points: run.curve(column, probe),
      className: several ? `run-${i}` : "",
    }));
  // Runs that log different quantities are shown as logged, under the name "score".
  const { name: word, factor } = scene.runs[0].quantity;
  const alike = scene.runs.every(({ quantity }) => quantity.name === word && quantity.factor === factor);
  const scores = lines("score").map((line) => ({
    ...line,
    points: line.points.map(
      ([step, score]) => /** @type {[number, number]} */ ([step, alike ? factor * score : score]),
    ),
  }));
  const unit = /** @type {[number, number]} */ ([0, 1]);
  const regions = scene.runs.some((run) => run.info?.probes[probe]?.region);
  return [
    { title: alike ? word : "score", lines: scores, fixed: null, empty: "no scores were logged" },
    { title: "probability", lines: lines("probability"), fixed: unit, empty: "no probabilities were logged" },
    {
      title: "similarity to previous",
      lines: lines("similarity_previous"),
      fixed: unit,
      empty: "no similarity was logged",
    },
    {
      title: "similarity to first",
      lines: lines("similarity_first"),
      fixed: unit,
      empty: [...new Set(scene.runs.map((run) => noFirst(run, probe)))].join("; "),
    },
    { title: "focus", lines: lines("focus"), fixed: unit, empty: "no focus was logged" },
    {
      title: "mass inside the region",
      lines: lines("mass_inside"),
      fixed: unit,
      empty: regions ? "no mass inside was logged" : "this run has no regions",
    },
  ];
}

/**
 * Creates the box that marks the region of a probe on its picture, or returns null.
 * @param {Run} run
 * @param {number} probe
 */
function regionBox(run, probe) {
  const region = run.info?.probes[probe]?.region;
  if (!region || !run.info) return null;
  const [height, width] = run.info.input_size;
  const [x0, y0, x1, y1] = region;
  const box = element("span", { className: "region", title: "region" });
  const percent = (/** @type {number} */ share) => `${(Math.min(Math.max(share, 0), 1) * 100).toFixed(3)}%`;
  Object.assign(box.style, {
    left: percent(x0 / width),
    top: percent(y0 / height),
    width: percent((x1 - x0) / width),
    height: percent((y1 - y0) / height),
  });
  return box;
}

/**
 * Creates the large pictures of a run with their caption.
 * @param {Run} run
 * @param {number} probe
 * @param {number} order of the run among those compared
 * @param {Scene} scene
 */
function largeView(run, probe, order, scene) {
  const { pinned = null } = scene.look;
  const longest = scene.runs.length > 1 || pinned !== null ? LARGE_OF_SEVERAL : LARGE;
  const map = figure(run, probe, longest);
  const guided = run.listing.has.guided || run.listing.has.start_guided ? figure(run, probe, longest, [run.own]) : null;
  const earlier = pinned === null ? [] : [figure(run, probe, longest), figure(run, probe, longest)];
  const line = element("p", { className: "caption" });
  const more = element("p", { className: "more" });
  const box = regionBox(run, probe);
  if (box) map.canvas.after(box);
  const name = shortened(scene.titles.get(run.name) ?? run.name, 80);
  const zoom = element("button", { type: "button", className: "zoom" }, "Zoom");
  zoom.setAttribute("aria-pressed", "false");
  zoom.setAttribute("aria-label", `zoom into ${name}`);
  zoom.addEventListener("click", () => {
    const zoomed = root.classList.toggle("zoomed");
    zoom.setAttribute("aria-pressed", String(zoomed));
    if (zoomed) root.scrollIntoView({ block: "nearest" });
  });
  const root = element(
    "section",
    { className: places(run) > 1 ? "large wide" : "large" },
    element("h2", { className: `run-${order}`, dir: "auto", title: shortened(run.name, 300) }, name),
    zoom,
    element(
      "div",
      { className: "pair" },
      map.root,
      ...earlier.map((shot) => shot.root),
      ...(guided ? [guided.root] : []),
    ),
    line,
    more,
  );
  root.setAttribute("aria-label", `run ${name}`);

  /** @param {Scene} at */
  function draw(at) {
    const step = runStep(run, at.steps[at.position]);
    map.draw(step, besideGuided(at.look), at.redraw);
    guided?.draw(step, { ...at.look, view: "guided" }, at.redraw);
    if (pinned !== null) {
      const then = runStep(run, pinned);
      earlier[0].draw(then, besideGuided(at.look), at.redraw);
      earlier[1].draw(step, { ...at.look, view: "overlay", against: then ?? -2 }, at.redraw);
    }
    const { flipped } = caption(line, run, step, probe, true);
    const facts = [];
    if (step !== null && step !== at.steps[at.position]) facts.push(`shown: ${epochName(step)}`);
    if (flipped !== null) facts.push(`prediction flipped at ${epochName(flipped)}`);
    const explained = run.number("explained", step ?? -2, probe);
    if (Number.isFinite(explained)) facts.push(`explained: ${shortened(run.className(explained), 40)}`);
    const vmax = run.sides.map((side) => formatted(vmaxOf(side, step ?? -2, probe, at.look)));
    if (step !== null) facts.push(`top ${vmax.join(" and ")} (${at.look.scale})`);
    if (pinned !== null)
      facts.push(`beside it ${epochName(pinned)} and the difference: orange is more than then, blue is less`);
    if (!guided) facts.push("guided maps were not logged");
    if (!box) facts.push("this run has no regions");
    more.textContent = facts.join(" · ");
  }
  return { root, draw };
}

/**
 * Creates the filmstrip of a run. Only the frames on the screen are drawn.
 * @param {Run} run
 * @param {number} probe
 * @param {Scene} scene
 * @param {(position: number) => void} go
 */
function filmstrip(run, probe, scene, go) {
  let at = scene;
  const watcher = new IntersectionObserver(
    (entries) => entries.forEach(({ target, isIntersecting }) => frames.get(target)?.show(isIntersecting)),
    { rootMargin: "0px 400px" },
  );
  /** @type {Map<Element, {show: (yes: boolean) => void, draw: () => void}>} */
  const frames = new Map();
  const buttons = run.steps.map((step) => {
    const shot = figure(run, probe, STRIP);
    shot.root.style.setProperty("--places", String(places(run)));
    const name = element("span", { className: "name" }, step < 0 ? "start" : String(step));
    const button = element("button", { type: "button", className: "frame" }, shot.root, name);
    button.setAttribute("aria-label", epochName(step));
    button.addEventListener("click", () => go(at.steps.indexOf(step)));
    let visible = false;
    const draw = () => {
      if (visible) shot.draw(step, besideGuided(at.look), () => {});
    };
    frames.set(button, {
      draw,
      show: (yes) => {
        visible = yes;
        draw();
      },
    });
    watcher.observe(button);
    return { step, button };
  });
  const root = element("div", { className: "strip" }, ...buttons.map(({ button }) => button));
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "filmstrip");
  let marked = /** @type {HTMLElement | null} */ (null);
  let look = "";

  /** @param {Scene} now */
  function draw(now) {
    at = now;
    if (JSON.stringify(now.look) !== look) {
      look = JSON.stringify(now.look);
      frames.forEach((frame) => frame.draw());
    }
    const step = runStep(run, now.steps[now.position]);
    const button = buttons.find((frame) => frame.step === step)?.button ?? null;
    if (button === marked) return;
    marked?.removeAttribute("aria-current");
    button?.setAttribute("aria-current", "true");
    marked = button;
    if (button) {
      const middle = button.offsetLeft - root.offsetLeft - (root.clientWidth - button.offsetWidth) / 2;
      root.scrollTo({ left: middle });
    }
  }
  return { root, draw, close: () => watcher.disconnect() };
}

/**
 * Creates the view of one probe.
 * @param {{close: () => void, go: (position: number) => void}} actions
 */
export function detailView(actions) {
  const root = element("main", { className: "detail", tabIndex: -1 });
  let built = "";
  /** @type {((scene: Scene) => void)[]} */
  let drawers = [];
  /** @type {(() => void)[]} */
  let closers = [];

  /**
   * @param {Scene} scene
   * @param {number} probe
   */
  function update(scene, probe) {
    const runs = scene.runs.map((run) => [run.name, run.revision]);
    const key = JSON.stringify([probe, runs, scene.steps, scene.look.pinned]);
    if (key !== built) {
      close();
      built = key;
      build(scene, probe);
    }
    draw(scene);
  }

  /**
   * @param {Scene} scene
   * @param {number} probe
   */
  function build(scene, probe) {
    const label = labels(scene.runs, probe).join(" / ");
    const back = element("button", { type: "button", className: "back", title: "Escape" }, "← All probes");
    back.addEventListener("click", actions.close);
    const title = element(
      "h1",
      null,
      `#${probe} `,
      element("span", { dir: "auto", title: shortened(label, 300) }, shortened(label)),
    );
    const larges = scene.runs.map((run, i) => largeView(run, probe, i, scene));
    const curves = charts(scene, probe).map((content) => chart(content, scene.steps, actions.go));
    const strips = scene.runs.map((run) => filmstrip(run, probe, scene, actions.go));
    const several = scene.runs.length > 1 ? "larges several" : "larges";
    root.replaceChildren(
      element("div", { className: "head" }, back, title),
      element(
        "div",
        { className: "body" },
        element("div", { className: several }, ...larges.map((large) => large.root)),
        element("div", { className: "charts" }, ...curves.map((curve) => curve.root)),
      ),
      element("div", { className: "strips" }, ...strips.map((strip) => strip.root)),
    );
    drawers = [
      ...larges.map((large) => large.draw),
      ...strips.map((strip) => strip.draw),
      (/** @type {Scene} */ at) => curves.forEach((curve) => curve.move(at.position)),
    ];
    closers = strips.map((strip) => strip.close);
  }

  /** @param {Scene} scene */
  function draw(scene) {
    for (const drawer of drawers) drawer(scene);
  }

  function close() {
    closers.forEach((closer) => closer());
    closers = [];
    drawers = [];
    built = "";
  }
  return { root, update, draw, close };
}
