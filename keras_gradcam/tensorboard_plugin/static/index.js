// @ts-check
// Connects data, state and views. TensorBoard calls `render`.

import { classTable } from "./classes.js";
import { bottomBar, topBar } from "./controls.js";
import { detailView } from "./detail.js";
import { element } from "./dom.js";
import { fetchRuns } from "./fetch.js";
import { START, epochName, expectedEpochs, shortened, union } from "./format.js";
import { gridView, orderedProbes } from "./grid.js";
import { followTheme, onHashChange, onKey, onReload, readHash, writeHash } from "./host.js";
import { errorList, hint, noData, skeleton } from "./messages.js";
import { saveAnimation, savePictures } from "./save.js";
import { fromHash, runTitles, shownRuns, shownScale, shownStep, toHash } from "./state.js";
import { Run } from "./store.js";

const POLL_MS = 5000;

class App {
  constructor() {
    this.state = fromHash(readHash());
    /** @type {Map<string, Run> | null} null until the list of runs has arrived */
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
      pin: () => this.pin(),
      save: () => this.save(),
      animate: () => this.animate(),
    });
    this.errors = errorList(() => this.poll(true));
    this.grid = gridView((probe) => this.change({ probe }));
    this.detail = detailView({ close: () => this.change({ probe: null }), go: (position) => this.go(position, true) });
    this.classes = classTable();
    this.stage = element("div", { className: "stage" });
    this.root = element("div", { className: "app" }, this.top.root, this.errors.root);
    this.root.append(this.classes.root, this.stage, this.bottom.root);
  }

  /** Shows the page and keeps it up to date. */
  begin() {
    document.body.replaceChildren(this.root);
    onKey((event) => this.key(event));
    document.addEventListener("visibilitychange", () => document.hidden || this.poll());
    onHashChange(() => {
      const state = fromHash(readHash());
      if (JSON.stringify(state) === JSON.stringify(this.state)) return;
      this.state = state;
      this.loadShown(true);
      this.redraw("all");
    });
    onReload(() => this.poll());
    this.redraw("all");
    this.poll();
    setInterval(() => document.hidden || this.poll(), POLL_MS);
  }

  /**
   * Fetches new data.
   * @param {boolean} [retry] also data that could not be fetched before
   */
  async poll(retry = false) {
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
    await this.loadShown(retry);
    this.redraw("all");
  }

  /**
   * Fetches the runs shown, as far as they have new data.
   * @param {boolean} [retry]
   */
  async loadShown(retry = false) {
    const stale = this.shown().filter((run) => run.stale || (retry && run.revision !== run.listing.revision));
    await Promise.all(
      stale.map(async (run) => {
        await run.load();
        this.redraw("all");
      }),
    );
  }

  /**
   * Returns the runs that are chosen.
   * @returns {Run[]}
   */
  shown() {
    const all = this.runs ?? new Map();
    return shownRuns([...all.keys()], this.state.runs).map((name) => all.get(name));
  }

  /**
   * Returns what is on the screen, or null if there is nothing to show.
   * @returns {import("./paint.js").Scene | null}
   */
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
      redraw: () => this.redraw("frame"),
    };
  }

  /**
   * Returns the probe that is shown in detail, or null.
   * @param {{runs: Run[]}} scene
   */
  openProbe({ runs }) {
    const { probe } = this.state;
    return probe !== null && runs.some((run) => probe < run.probeCount) ? probe : null;
  }

  /**
   * Changes the state, the address and the page.
   * @param {Partial<import("./state.js").State>} change
   */
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
   * Moves to the step at an index.
   * @param {number} position
   * @param {boolean} settled whether the slider was released, so that the cards may be sorted again
   */
  go(position, settled) {
    const scene = this.scene();
    if (!scene) return;
    const last = scene.steps.length - 1;
    const index = Math.min(Math.max(position, 0), last);
    this.state.epoch = index === last ? null : scene.steps[index];
    this.settled = settled;
    if (settled) writeHash(toHash(readHash(), this.state));
    this.redraw(settled ? "all" : "frame");
  }

  /**
   * Moves by a number of steps.
   * @param {number} by
   */
  step(by) {
    const scene = this.scene();
    if (scene) this.go(scene.position + by, true);
  }

  /**
   * Starts or stops playing.
   * @param {boolean} on
   */
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

  /** Compares other epochs with the one that is shown, or stops comparing. */
  pin() {
    const scene = this.scene();
    if (scene) this.change({ pinned: this.state.pinned === null ? scene.steps[scene.position] : null });
  }

  /** Saves the pictures that are shown. */
  save() {
    const scene = this.scene();
    if (scene) savePictures(this.stage, `gradcam ${epochName(scene.steps[scene.position])}`);
  }

  /** Saves all epochs of the probe that is shown in detail. */
  animate() {
    const scene = this.scene();
    const probe = scene && this.openProbe(scene);
    if (scene && probe !== null) saveAnimation(scene, probe, this.state.speed);
  }

  /**
   * Handles a key.
   * @param {KeyboardEvent} event
   */
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

  /**
   * Draws at the next frame of the screen: pictures alone, or everything.
   * @param {"frame" | "all"} what
   */
  redraw(what) {
    if (!this.dirty) requestAnimationFrame(() => this.render());
    if (this.dirty !== "all") this.dirty = what;
  }

  /** Draws what `redraw` asked for. */
  render() {
    const all = this.dirty === "all";
    this.dirty = "";
    const scene = this.scene();
    if (all) this.layout(scene);
    else if (scene && this.openProbe(scene) !== null) this.detail.draw(scene);
    else if (scene) {
      this.grid.draw(scene);
      this.classes.draw(scene);
    }
    this.bottom.move(scene?.steps ?? [], scene?.position ?? 0, this.playing !== 0);
    if (scene && !performance.getEntriesByName("gradcam-first-frame").length) performance.mark("gradcam-first-frame");
  }

  /**
   * Updates everything on the page.
   * @param {ReturnType<App["scene"]>} scene
   */
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
    const waiting = !this.runs && !this.listError;
    this.root.setAttribute("aria-busy", String(waiting || shown.some((run) => run.loading)));
    this.errors.update(this.problems(shown, titles));
    const colormap = this.state.colors ?? scene?.runs[0].info?.colormap ?? "inferno";
    const drift = (scene?.runs ?? []).map((run, i) => ({
      points: run.driftCurve,
      className: scene && scene.runs.length > 1 ? `run-${i}` : "",
    }));
    const count = scene ? epochCount(scene.runs, scene.steps) : "";
    this.bottom.update(scene?.steps ?? [], drift, count, this.state, colormap, scene?.runs[0].training ?? []);
    const probe = scene && this.openProbe(scene);
    this.classes.update(probe === null ? scene : null);
    if (scene && probe !== null) {
      this.show(this.detail.root);
      this.detail.update(scene, probe);
    } else if (scene) {
      this.detail.close();
      if (this.settled) this.order = orderedProbes(scene.runs, this.state, scene.steps[scene.position]);
      this.show(this.grid.root);
      this.grid.update(scene, this.order);
    } else {
      this.show(this.nothing(names, shown));
    }
  }

  /**
   * Says why there is nothing to show.
   * @param {string[]} names
   * @param {Run[]} shown
   */
  nothing(names, shown) {
    if (!this.runs) return this.listError ? hint("Waiting for the list of runs.") : skeleton();
    if (!names.length) return noData();
    if (!shown.length) return hint("Choose a run above.");
    if (shown.some((run) => run.loaded)) return hint("This run has no maps yet. They appear after its first epoch.");
    return shown.every((run) => run.error) ? hint("The chosen runs could not be read.") : skeleton();
  }

  /**
   * Lists what went wrong, in words.
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
        if (maps.unreadable) texts.push(`${name}: the maps of ${maps.unreadable} epochs cannot be read.`);
    }
    return texts;
  }

  /**
   * Shows a view in the middle of the page.
   * @param {HTMLElement} view
   */
  show(view) {
    if (this.stage.firstChild !== view) this.stage.replaceChildren(view);
  }
}

/**
 * Says how many of the logged epochs are shown.
 * @param {Run[]} runs
 * @param {number[]} steps
 */
function epochCount(runs, steps) {
  const expected = union(runs.map((run) => expectedEpochs(run.steps, run.info?.every ?? 1)));
  const shown = steps.filter((step) => step !== START).length;
  return `${shown} of ${expected.length} epochs shown`;
}

/** Starts the page. */
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
