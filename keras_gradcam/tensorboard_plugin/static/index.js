// @ts-check
// Wires data, state and views together.

import { bottomBar, element, topBar } from "./controls.js";
import { detailView } from "./detail.js";
import { followTheme, onHashChange, onKey, onReload, readHash, writeHash } from "./host.js";
import { START, expectedEpochs, shortened, union } from "./model.js";
import { fromHash, runTitles, shownRuns, shownScale, shownStep, toHash } from "./state.js";
import { Run, fetchRuns } from "./store.js";
import { errorList, gridView, hint, noData, orderedProbes, skeleton } from "./views.js";

const POLL_MS = 5000;

class App {
  constructor() {
    this.state = fromHash(readHash());
    /** @type {Map<string, Run> | null} null until the list of runs came */
    this.runs = null;
    this.listError = "";
    this.polling = false;
    this.playing = 0;
    this.settled = true;
    /** @type {number[]} */
    this.order = [];
    this.dirty = /** @type {"" | "frame" | "all"} */ ("");
    this.top = topBar((change) => this.change(change));
    this.bottom = bottomBar({
      go: (position, settled) => this.go(position, settled),
      step: (by) => this.step(by),
      play: () => this.play(!this.playing),
      speed: (speed) => {
        this.change({ speed });
        if (this.playing) this.play(true);
      },
    });
    this.errors = errorList(() => this.poll(true));
    this.grid = gridView((probe) => this.change({ probe }));
    this.detail = detailView({ close: () => this.change({ probe: null }), go: (position) => this.go(position, true) });
    this.stage = element("div", { className: "stage" });
    this.root = element("div", { className: "app" }, this.top.root, this.errors.root, this.stage, this.bottom.root);
  }

  begin() {
    document.body.replaceChildren(this.root);
    onKey((event) => this.key(event));
    document.addEventListener("visibilitychange", () => document.hidden || this.poll());
    onHashChange(() => {
      const wanted = fromHash(readHash());
      if (JSON.stringify(wanted) === JSON.stringify(this.state)) return;
      this.state = wanted;
      this.redraw("all");
    });
    onReload(() => this.poll());
    this.redraw("all");
    this.poll();
    setInterval(() => document.hidden || this.poll(), POLL_MS);
  }

  /** Asks for what is new. @param {boolean} [again] also what failed before */
  async poll(again = false) {
    if (this.polling) return;
    this.polling = true;
    try {
      const listings = await fetchRuns();
      const before = this.runs;
      this.runs = new Map(
        listings.map((listing) => {
          const run = before?.get(listing.name) ?? new Run(listing);
          run.listing = listing;
          return [listing.name, run];
        }),
      );
      this.listError = "";
      if (!before || [...before.keys()].join("\n") !== [...this.runs.keys()].join("\n")) this.redraw("all");
    } catch (error) {
      this.listError = `The list of runs could not be fetched: ${error instanceof Error ? error.message : error}`;
    } finally {
      this.polling = false;
    }
    await this.loadShown(again);
    this.redraw("all");
  }

  /** @param {boolean} [again] */
  async loadShown(again = false) {
    const wanted = this.shown().filter((run) => run.stale || (again && run.revision !== run.listing.revision));
    await Promise.all(
      wanted.map(async (run) => {
        await run.load();
        this.redraw("all");
      }),
    );
  }

  /** @returns {Run[]} */
  shown() {
    const all = this.runs ?? new Map();
    return shownRuns([...all.keys()], this.state.runs).map((name) => all.get(name));
  }

  /** What is on the screen, or null if nothing can be. */
  scene() {
    const runs = this.shown().filter((run) => run.loaded);
    const steps = union(runs.map((run) => run.steps));
    if (!runs.length || !steps.length) return null;
    const step = shownStep(steps, this.state.epoch) ?? steps[0];
    return {
      runs,
      titles: runTitles([...(this.runs ?? new Map()).keys()]),
      steps,
      position: steps.indexOf(step),
      look: { ...this.state, scale: shownScale(runs, this.state.scale) },
      again: () => this.redraw("frame"),
    };
  }

  /** The probe that is looked at closely, if there is such a probe. @param {{runs: Run[]}} scene */
  openProbe({ runs }) {
    const { probe } = this.state;
    return probe !== null && runs.some((run) => probe < run.probeCount) ? probe : null;
  }

  /** @param {Partial<import("./state.js").State>} change */
  change(change) {
    const closed = change.probe === null ? this.state.probe : null;
    Object.assign(this.state, change);
    this.settled = true;
    writeHash(toHash(readHash(), this.state));
    if (change.runs !== undefined) this.loadShown(true);
    this.redraw("all");
    if (change.probe !== undefined && change.probe !== null) requestAnimationFrame(() => this.detail.root.focus());
    if (closed !== null) requestAnimationFrame(() => this.grid.focus(closed));
  }

  /**
   * @param {number} position
   * @param {boolean} settled whether the person has let go, so that cards may change places
   */
  go(position, settled) {
    const scene = this.scene();
    if (!scene) return;
    const last = scene.steps.length - 1;
    const at = Math.min(Math.max(position, 0), last);
    this.state.epoch = at === last ? null : scene.steps[at];
    this.settled = settled;
    if (settled) writeHash(toHash(readHash(), this.state));
    this.redraw(settled ? "all" : "frame");
  }

  /** @param {number} by */
  step(by) {
    const scene = this.scene();
    if (scene) this.go(scene.position + by, true);
  }

  /** @param {boolean} on */
  play(on) {
    clearInterval(this.playing);
    this.playing = 0;
    const scene = this.scene();
    if (on && scene) {
      if (scene.position === scene.steps.length - 1) this.go(0, false);
      this.playing = window.setInterval(() => {
        const now = this.scene();
        if (!now || now.position >= now.steps.length - 1) this.play(false);
        else this.go(now.position + 1, false);
      }, 1000 / this.state.speed);
    } else if (scene) {
      this.go(scene.position, true);
    }
    this.redraw("frame");
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && this.state.probe !== null) {
      this.change({ probe: null });
      return;
    }
    if (target.matches?.("select, input[type=search], input[type=radio], #opacity")) return;
    const scene = this.scene();
    const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (scene && Object.hasOwn(moves, event.key)) {
      event.preventDefault();
      this.go(scene.position + moves[/** @type {keyof typeof moves} */ (event.key)], true);
    } else if (event.key === " " && !target.matches?.("button, input[type=checkbox]")) {
      event.preventDefault();
      this.play(!this.playing);
    }
  }

  /** @param {"frame" | "all"} what */
  redraw(what) {
    if (!this.dirty) requestAnimationFrame(() => this.render());
    if (this.dirty !== "all") this.dirty = what;
  }

  render() {
    const all = this.dirty === "all";
    this.dirty = "";
    const scene = this.scene();
    if (all) this.layout(scene);
    else if (scene && this.openProbe(scene) !== null) this.detail.draw(scene);
    else if (scene) this.grid.draw(scene);
    this.bottom.move(scene?.steps ?? [], scene?.position ?? 0, this.playing !== 0);
    if (scene && !performance.getEntriesByName("gradcam-first-frame").length) performance.mark("gradcam-first-frame");
  }

  /** @param {ReturnType<App["scene"]>} scene */
  layout(scene) {
    const names = [...(this.runs ?? new Map()).keys()];
    const titles = runTitles(names);
    const shown = this.shown();
    this.top.update(
      { ...this.state, scale: shownScale(shown, this.state.scale) },
      names.map((name) => ({ name, title: titles.get(name) ?? name })),
      shown.map((run) => run.name),
    );
    this.root.classList.toggle("nothing", this.runs !== null && !names.length);
    this.errors.update(this.problems(shown, titles));
    const drift = (scene?.runs ?? []).map((run, i) => ({
      points: run.driftCurve,
      className: scene && scene.runs.length > 1 ? `run-${i}` : "",
    }));
    this.bottom.update(scene?.steps ?? [], drift, scene ? epochCount(scene.runs, scene.steps) : "", this.state.speed);
    const probe = scene && this.openProbe(scene);
    if (scene && probe !== null) {
      this.stand(this.detail.root);
      this.detail.update(scene, probe);
    } else if (scene) {
      this.detail.close();
      if (this.settled) this.order = orderedProbes(scene.runs, this.state, scene.steps[scene.position]);
      this.stand(this.grid.root);
      this.grid.update(scene, this.order);
    } else {
      this.stand(this.nothing(names, shown));
    }
  }

  /**
   * @param {string[]} names
   * @param {Run[]} shown
   */
  nothing(names, shown) {
    if (!this.runs)
      return this.listError ? hint("There is nothing to show until the list of runs arrives.") : skeleton();
    if (!names.length) return noData();
    if (!shown.length) return hint("Choose a run above.");
    if (shown.some((run) => run.loaded)) return hint("This run holds no maps yet. They come with its first epoch.");
    return shown.every((run) => run.error) ? hint("The chosen runs could not be read.") : skeleton();
  }

  /**
   * @param {Run[]} shown
   * @param {Map<string, string>} titles
   */
  problems(shown, titles) {
    const texts = this.listError ? [this.listError] : [];
    for (const run of shown) {
      const name = shortened(titles.get(run.name), 60);
      if (run.error) texts.push(`${name}: the data could not be fetched: ${run.error}`);
      if (run.listing.error) texts.push(`${name}: ${run.listing.error}`);
      for (const { maps } of run.sides)
        if (maps.unreadable) texts.push(`${name}: ${maps.unreadable} epochs hold something else than maps.`);
    }
    return texts;
  }

  /** @param {HTMLElement} view */
  stand(view) {
    if (this.stage.firstChild !== view) this.stage.replaceChildren(view);
  }
}

/**
 * @param {Run[]} runs
 * @param {number[]} steps
 */
function epochCount(runs, steps) {
  const expected = union(runs.map((run) => expectedEpochs(run.steps, run.info?.every ?? 1)));
  const shown = steps.filter((step) => step !== START).length;
  return `${shown} of ${expected.length} epochs shown`;
}

/** Called by TensorBoard. */
export async function render() {
  document.documentElement.lang = "en";
  document.title = "Grad-CAM";
  followTheme();
  const style = element("link", { rel: "stylesheet", href: new URL("./style.css", import.meta.url).href });
  const styled = new Promise((done) => {
    style.addEventListener("load", done);
    style.addEventListener("error", done);
  });
  document.head.append(style);
  await styled;
  new App().begin();
}
