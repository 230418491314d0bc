// @ts-check
// The data of the chosen runs: fetched, decoded, asked for by run, step and probe.

import { START, decimals, decodeSeries, extent, meanKnown, peak, sameBytes, union, unpack } from "./model.js";

/**
 * @typedef {import("./model.js").Series} Series
 * @typedef {{name: string, revision: string, last_epoch: number | null, info: import("./model.js").RunInfo | null,
 *   error: string | null, has: {maps: boolean, partner_maps: boolean, guided: boolean, start_guided: boolean,
 *   pictures: boolean, partners: boolean}}} Listing
 */

const NO_SERIES = /** @type {Series} */ ({ steps: [], shapes: [], data: [], unreadable: 0 });
const GUIDED_KEPT = 48;

/** How long a run rests between two fetches, in times of what a fetch takes: a growing run must not fill the line. */
const REST = 5;

class HttpError extends Error {
  /** @param {number} status @param {string} text */
  constructor(status, text) {
    super(`${status} ${text.slice(0, 200)}`.trim());
    this.status = status;
  }
}

/** @param {string} path */
async function fetched(path) {
  const response = await fetch(path);
  if (!response.ok) throw new HttpError(response.status, await response.text());
  return response;
}

/** What there need not be. @template T @param {Promise<T>} promise @returns {Promise<T | null>} */
function optional(promise) {
  return promise.catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
}

/** @returns {Promise<Listing[]>} */
export async function fetchRuns() {
  return (await (await fetched("./runs")).json()).runs;
}

/**
 * @param {string} route
 * @param {string} run
 * @param {string} [more]
 */
async function fetchBinary(route, run, more = "") {
  return (await fetched(`./${route}?run=${encodeURIComponent(run)}${more}`)).arrayBuffer();
}

/** The encoded pictures of an answer. @param {ArrayBuffer} buffer */
function encodedPictures(buffer) {
  return unpack(buffer).parts.map(({ offset, length }) => new Uint8Array(buffer, offset, length));
}

/**
 * @param {Uint8Array<ArrayBuffer>[]} encoded
 * @returns {Promise<(ImageBitmap | null)[]>} null for what is no picture
 */
function decodePictures(encoded) {
  return Promise.all(encoded.map((bytes) => createImageBitmap(new Blob([bytes])).catch(() => null)));
}

/** Pictures and maps: those of the probes, or those of their partners where the probes are pairs. */
export class Side {
  /**
   * @param {Series} [maps]
   * @param {(ImageBitmap | null)[]} [pictures]
   * @param {Uint8Array[]} [encoded] the same as they came
   */
  constructor(maps = NO_SERIES, pictures = [], encoded = []) {
    this.maps = maps;
    this.pictures = pictures;
    this.encoded = encoded;
    /** Step to its place among the maps. @type {Map<number, number>} */
    this.index = new Map(maps.steps.map((step, i) => [step, i]));
    /** Largest value of each probe over all steps. @type {number[]} */
    this.tops = [];
    maps.shapes.forEach(([n, h, w], frame) => {
      for (let probe = 0; probe < n; probe++) {
        const top = peak(maps.data[frame].subarray(probe * h * w, (probe + 1) * h * w));
        this.tops[probe] = Math.max(this.tops[probe] ?? 0, top);
      }
    });
  }

  /**
   * The map of a probe, or null.
   * @param {number} step
   * @param {number} probe
   */
  cells(step, probe) {
    const frame = this.index.get(step);
    if (frame === undefined) return null;
    const [n, h, w] = this.maps.shapes[frame];
    if (probe >= n || h * w === 0) return null;
    return { map: this.maps.data[frame].subarray(probe * h * w, (probe + 1) * h * w), h, w };
  }
}

/**
 * @param {string} run
 * @param {string} maps route of the maps, "" without
 * @param {string} pictures route of the pictures, "" without
 */
async function fetchSide(run, maps, pictures) {
  const [series, encoded] = await Promise.all([
    maps ? fetchBinary(maps, run).then(decodeSeries) : NO_SERIES,
    pictures ? fetchBinary(pictures, run).then(encodedPictures) : [],
  ]);
  return new Side(series, await decodePictures(encoded), encoded);
}

/**
 * Why the maps of a probe in two runs cannot be compared; "" if they can.
 * @param {Run} a
 * @param {Run} b
 * @param {number} probe
 */
export function unlike(a, b, probe) {
  if (probe >= a.probeCount || probe >= b.probeCount) return "no such probe";
  const [one, other] = [a, b].map((run) => run.info?.probes[probe]?.label ?? null);
  if (one !== other) return "another label";
  const sides = Math.min(a.sides.length, b.sides.length);
  for (let i = 0; i < sides; i++) {
    const what = i === 0 ? "picture" : "partner";
    const [mine, its] = [a, b].map((run) => run.sides[i].encoded[probe]);
    if (!mine || !its) return `no ${what} was logged`;
    if (!sameBytes(mine, its)) return `another ${what}`;
  }
  return "";
}

/** One run, as much of it as has arrived. */
export class Run {
  /** @param {Listing} listing */
  constructor(listing) {
    this.listing = listing;
    this.name = listing.name;
    /** "" until the first data came; then the revision they belong to. */
    this.revision = "";
    this.error = "";
    /** The revision that could not be fetched. */
    this.failed = "";
    this.loading = false;
    /** Not to be fetched again before, in milliseconds of the page. */
    this.rest = 0;
    /** All steps with a map or numbers, ascending. @type {number[]} */
    this.steps = [];
    /** 1 - similarity to the previous epoch, mean over probes that have one. @type {[number, number][]} */
    this.driftCurve = [];
    /** Steps at which the prediction of a probe changed. @type {Map<number, number[]>} */
    this.flips = new Map();
    this.own = new Side();
    /** Null where the probes are no pairs. @type {Side | null} */
    this.partner = null;
    this.numbers = NO_SERIES;
    /** @type {Map<number, number>} */
    this.numberIndex = new Map();
    /** Whether a class was ever predicted; numbers that never came say nothing against it. */
    this.classifies = true;
    /** How many decimals scores need at each step. @type {Map<number, number>} */
    this.scoreDecimals = new Map();
    /** @type {Map<number, {pictures: (ImageBitmap | null)[] | null, error: string, loading: boolean}>} */
    this.guidedByStep = new Map();
  }

  get info() {
    return this.listing.info;
  }

  /** Left to right. @returns {Side[]} */
  get sides() {
    return this.partner ? [this.own, this.partner] : [this.own];
  }

  get loaded() {
    return this.revision !== "";
  }

  /** Fetches what belongs to the listing. */
  async load() {
    if (this.loading) return;
    this.loading = true;
    const { revision, has } = this.listing;
    const begun = performance.now();
    try {
      const [own, partner, numbers] = await Promise.all([
        fetchSide(this.name, has.maps ? "maps" : "", has.pictures ? "pictures" : ""),
        has.partners || has.partner_maps
          ? fetchSide(this.name, has.partner_maps ? "partner_maps" : "", has.partners ? "partners" : "")
          : null,
        optional(fetchBinary("numbers", this.name)),
      ]);
      this.own = own;
      this.partner = partner;
      this.numbers = numbers ? decodeSeries(numbers) : NO_SERIES;
      this.numberIndex = new Map(this.numbers.steps.map((step, i) => [step, i]));
      this.classifies = !this.numbers.steps.length || this.#everPredicted();
      this.guidedByStep.clear();
      this.steps = union([own.maps.steps, this.numbers.steps]);
      this.driftCurve = this.steps.map((step) => [step, this.drift(step)]);
      this.flips.clear();
      this.scoreDecimals = this.#decimalsOfScores();
      this.revision = revision;
      this.error = "";
    } catch (error) {
      this.error = error instanceof Error ? error.message : String(error);
      this.failed = revision;
    } finally {
      this.loading = false;
      this.rest = performance.now() + REST * (performance.now() - begun);
    }
  }

  #everPredicted() {
    return this.numbers.shapes.some(([n], frame) =>
      Array.from({ length: n }, (_, probe) => this.number("predicted", this.numbers.steps[frame], probe)).some(
        Number.isFinite,
      ),
    );
  }

  get probeCount() {
    return Math.max(this.info?.probes.length ?? 0, this.own.pictures.length, this.own.tops.length);
  }

  /** Whether there is something to fetch that has not just been tried. */
  get stale() {
    const { revision } = this.listing;
    return revision !== this.revision && revision !== this.failed && performance.now() >= this.rest;
  }

  /**
   * A number of a probe, NaN where it is not known.
   * @param {string} column
   * @param {number} step
   * @param {number} probe
   */
  number(column, step, probe) {
    const frame = this.numberIndex.get(step);
    const at = this.info?.columns.indexOf(column) ?? -1;
    if (frame === undefined || at < 0) return NaN;
    const [n, columns] = this.numbers.shapes[frame];
    return probe < n && at < columns ? this.numbers.data[frame][probe * columns + at] : NaN;
  }

  /**
   * A number of a probe over all steps of the run.
   * @param {string} column
   * @param {number} probe
   * @returns {[number, number][]} (step, value)
   */
  curve(column, probe) {
    return this.numbers.steps.map((step) => [step, this.number(column, step, probe)]);
  }

  /** A point of the drift curve. @param {number} step */
  drift(step) {
    const values = Array.from({ length: this.probeCount }, (_, probe) =>
      this.number("similarity_previous", step, probe),
    );
    return 1 - meanKnown(values);
  }

  /** Mean of 1 - similarity to the previous epoch over the run. @param {number} probe */
  probeDrift(probe) {
    return 1 - meanKnown(this.curve("similarity_previous", probe).map(([, value]) => value));
  }

  /**
   * Name of a class.
   * @param {number} index
   * @param {string} [kind] what it is called without a name
   */
  className(index, kind = "class") {
    const names = this.info?.class_names ?? {};
    return Object.hasOwn(names, String(index)) ? names[String(index)] : `${kind} ${index}`;
  }

  /** What the score is, and what to multiply it with: a distance is logged with a minus sign. */
  get quantity() {
    const [name, factor] = this.info?.quantity ?? ["score", 1];
    return { name, factor };
  }

  /** How many decimals tell the scores of the run apart, and those of each step. */
  #decimalsOfScores() {
    const { factor } = this.quantity;
    const probes = Array.from({ length: this.probeCount }, (_, probe) => probe);
    const scores = (/** @type {number} */ step) => probes.map((probe) => factor * this.number("score", step, probe));
    const needed = (/** @type {number[]} */ values) => decimals(...(extent(values) ?? [0, 0]));
    const { steps } = this.numbers;
    const ofRun = needed(steps.flatMap(scores));
    // The probes of a step are few: a decimal less tells them apart.
    return new Map(steps.map((step) => [step, Math.max(ofRun, needed(scores(step)) - 1)]));
  }

  /** The label in words, or null. @param {number} probe */
  label(probe) {
    const label = this.info?.probes[probe]?.label;
    if (label === null || label === undefined) return null;
    const kind = this.info?.label ?? "class";
    return this.className(label, kind === "class" && !this.classifies ? "label" : kind);
  }

  /**
   * What the model says of a probe.
   * @param {number} step
   * @param {number} probe
   */
  prediction(step, probe) {
    const predicted = this.number("predicted", step, probe);
    const label = this.info?.probes[probe]?.label ?? null;
    const known = Number.isFinite(predicted);
    return {
      name: known ? this.className(predicted) : null,
      probability: this.number("confidence", step, probe),
      score: this.quantity.factor * this.number("score", step, probe),
      wrong: known && label !== null && predicted !== label,
      flipped: this.#flipped(step, probe),
    };
  }

  /** The last epoch, up to `step`, whose prediction differs from that before. */
  #flipped(/** @type {number} */ step, /** @type {number} */ probe) {
    let flips = this.flips.get(probe);
    if (!flips) {
      const known = this.curve("predicted", probe).filter(([, predicted]) => Number.isFinite(predicted));
      flips = known.filter(([, predicted], i) => i > 0 && predicted !== known[i - 1][1]).map(([at]) => at);
      this.flips.set(probe, flips);
    }
    return flips.findLast((at) => at <= step) ?? null;
  }

  /** Whether guided pictures were logged at all. @param {number} step */
  hasGuided(step) {
    return step === START ? this.listing.has.start_guided : this.listing.has.guided;
  }

  /**
   * The guided pictures of a step if they are here; else begins to fetch them and calls `arrived` later.
   * @param {number} step
   * @param {() => void} arrived
   */
  guided(step, arrived) {
    const entry = this.guidedByStep.get(step);
    if (entry) return entry;
    if (this.guidedByStep.size >= GUIDED_KEPT) this.guidedByStep.delete(this.guidedByStep.keys().next().value ?? 0);
    const fresh = { pictures: /** @type {(ImageBitmap | null)[] | null} */ (null), error: "", loading: true };
    this.guidedByStep.set(step, fresh);
    fetchBinary("guided", this.name, `&epoch=${step}`)
      .then((buffer) => decodePictures(encodedPictures(buffer)))
      .then((pictures) => (fresh.pictures = pictures))
      .catch((error) => (fresh.error = String(error.message)))
      .finally(() => {
        fresh.loading = false;
        arrived();
      });
    return fresh;
  }
}
