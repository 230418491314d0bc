// @ts-check
// Holds the data of the runs, and answers questions about a run, a step and a probe.

import { decodeSeries, sameBytes } from "./decode.js";
import { decodePictures, encodedPictures, fetchBinary, optional } from "./fetch.js";
import { START, decimals, extent, union } from "./format.js";
import { finiteMean, peak } from "./maps.js";
import { fetchTraining } from "./training.js";

/**
 * @typedef {import("./decode.js").Series} Series
 * @typedef {import("./fetch.js").Listing} Listing
 * @typedef {{encoded: Uint8Array<ArrayBuffer>[] | null, error: string,
 *   decoded: Map<number, {picture: ImageBitmap | null, error: string, loading: boolean}>}} Guided of one step
 */

const NO_SERIES = /** @type {Series} */ ({ steps: [], shapes: [], data: [], unreadable: 0 });
/** Epochs whose guided pictures are kept. */
const GUIDED_KEPT = 48;

/** Pause between two fetches of a run, in durations of a fetch, so that a growing run cannot block the connection. */
const REST = 5;

/** One side of the pairs, pictures and maps: the probes, or their partners. Probes without partners have one side. */
export class Side {
  /**
   * @param {Series} [maps]
   * @param {(ImageBitmap | null)[]} [pictures]
   * @param {Uint8Array[]} [encoded] the pictures before decoding
   * @param {import("./maps.js").Spans | null} [spans] where the maps lie on the pictures
   */
  constructor(maps = NO_SERIES, pictures = [], encoded = [], spans = null) {
    this.spans = spans;
    this.maps = maps;
    this.pictures = pictures;
    this.encoded = encoded;
    /** Step to its index among the maps. @type {Map<number, number>} */
    this.frameOf = new Map(maps.steps.map((step, i) => [step, i]));
    /** The largest value of each probe over all steps. @type {number[]} */
    this.vmax = [];
    maps.shapes.forEach(([n, h, w], frame) => {
      for (let probe = 0; probe < n; probe++) {
        const largest = peak(maps.data[frame].subarray(probe * h * w, (probe + 1) * h * w));
        this.vmax[probe] = Math.max(this.vmax[probe] ?? 0, largest);
      }
    });
  }

  /**
   * Returns the map of a probe, or null.
   * @param {number} step
   * @param {number} probe
   */
  grid(step, probe) {
    const frame = this.frameOf.get(step);
    if (frame === undefined) return null;
    const [n, h, w] = this.maps.shapes[frame];
    if (probe >= n || h * w === 0) return null;
    return { map: this.maps.data[frame].subarray(probe * h * w, (probe + 1) * h * w), h, w, spans: this.spans };
  }
}

/**
 * Fetches one side of a run.
 * @param {string} run
 * @param {string} maps route of the maps, "" without
 * @param {string} pictures route of the pictures, "" without
 * @param {import("./maps.js").Spans | null} spans where the maps lie on the pictures
 */
async function fetchSide(run, maps, pictures, spans) {
  const [series, encoded] = await Promise.all([
    maps ? fetchBinary(maps, run).then(decodeSeries) : NO_SERIES,
    pictures ? fetchBinary(pictures, run).then(encodedPictures) : [],
  ]);
  return new Side(series, await decodePictures(encoded), encoded, spans);
}

/**
 * Returns why the maps of a probe in two runs cannot be compared, "" if they can.
 * @param {Run} a
 * @param {Run} b
 * @param {number} probe
 */
export function unlike(a, b, probe) {
  if (probe >= a.probeCount || probe >= b.probeCount) return "no such probe";
  const [labelA, labelB] = [a, b].map((run) => run.info?.probes[probe]?.label ?? null);
  if (labelA !== labelB) return "another label";
  const sides = Math.min(a.sides.length, b.sides.length);
  for (let i = 0; i < sides; i++) {
    const what = i === 0 ? "picture" : "partner";
    const [pictureA, pictureB] = [a, b].map((run) => run.sides[i].encoded[probe]);
    if (!pictureA || !pictureB) return `no ${what} was logged`;
    if (!sameBytes(pictureA, pictureB)) return `another ${what}`;
  }
  return "";
}

/** One run, as far as it has been fetched. */
export class Run {
  /** @param {Listing} listing */
  constructor(listing) {
    this.listing = listing;
    this.name = listing.name;
    /** The revision of the data, "" until the first data have arrived. */
    this.revision = "";
    this.error = "";
    /** The revision that could not be fetched. */
    this.failed = "";
    this.loading = false;
    /** The earliest time of the next fetch, in milliseconds of the page. */
    this.restUntil = 0;
    /** All steps with a map or numbers, ascending. @type {number[]} */
    this.steps = [];
    /** 1 - similarity to the previous epoch, mean over the probes that have one. @type {[number, number][]} */
    this.driftCurve = [];
    /** Steps at which the prediction of a probe changed. @type {Map<number, number[]>} */
    this.flips = new Map();
    this.own = new Side();
    /** Null if the probes have no partners. @type {Side | null} */
    this.partner = null;
    this.numbers = NO_SERIES;
    /** Loss and accuracy, as Keras has logged them. @type {import("./training.js").Metric[]} */
    this.training = [];
    /** @type {Map<number, number>} */
    this.numberIndex = new Map();
    /** Whether the model predicts classes: true unless there are numbers without any prediction. */
    this.classifies = true;
    /** The decimals that scores need at each step. @type {Map<number, number>} */
    this.scoreDecimals = new Map();
    /** @type {Map<number, Guided>} */
    this.guidedByStep = new Map();
  }

  get info() {
    return this.listing.info;
  }

  /** From left to right. @returns {Side[]} */
  get sides() {
    return this.partner ? [this.own, this.partner] : [this.own];
  }

  get loaded() {
    return this.revision !== "";
  }

  /** Fetches the data of the run. */
  async load() {
    if (this.loading) return;
    this.loading = true;
    const { revision, has } = this.listing;
    const spans = this.info?.spans ?? null;
    const begun = performance.now();
    try {
      const [own, partner, numbers, training] = await Promise.all([
        fetchSide(this.name, has.maps ? "maps" : "", has.pictures ? "pictures" : "", spans),
        has.partners || has.partner_maps
          ? fetchSide(this.name, has.partner_maps ? "partner_maps" : "", has.partners ? "partners" : "", spans)
          : null,
        optional(fetchBinary("numbers", this.name)),
        fetchTraining(this.name),
      ]);
      this.own = own;
      this.partner = partner;
      this.numbers = numbers ? decodeSeries(numbers) : NO_SERIES;
      this.training = training;
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
      this.restUntil = performance.now() + REST * (performance.now() - begun);
    }
  }

  /** Tells whether a class was predicted at any step. */
  #everPredicted() {
    return this.numbers.shapes.some(([n], frame) =>
      Array.from({ length: n }, (_, probe) => this.number("predicted", this.numbers.steps[frame], probe)).some(
        Number.isFinite,
      ),
    );
  }

  get probeCount() {
    return Math.max(this.info?.probes.length ?? 0, this.own.pictures.length, this.own.vmax.length);
  }

  /** Whether there are new data that no fetch has failed for. */
  get stale() {
    const { revision } = this.listing;
    return revision !== this.revision && revision !== this.failed && performance.now() >= this.restUntil;
  }

  /**
   * Returns a number of a probe, NaN if it is missing.
   * @param {string} column
   * @param {number} step
   * @param {number} probe
   */
  number(column, step, probe) {
    const frame = this.numberIndex.get(step);
    const index = this.info?.columns.indexOf(column) ?? -1;
    if (frame === undefined || index < 0) return NaN;
    const [n, columns] = this.numbers.shapes[frame];
    return probe < n && index < columns ? this.numbers.data[frame][probe * columns + index] : NaN;
  }

  /**
   * Returns a number of a probe at every step of the run.
   * @param {string} column
   * @param {number} probe
   * @returns {[number, number][]} (step, value)
   */
  curve(column, probe) {
    return this.numbers.steps.map((step) => [step, this.number(column, step, probe)]);
  }

  /**
   * Returns the drift at a step: 1 - similarity to the previous epoch, mean over the probes.
   * @param {number} step
   */
  drift(step) {
    const values = Array.from({ length: this.probeCount }, (_, probe) =>
      this.number("similarity_previous", step, probe),
    );
    return 1 - finiteMean(values);
  }

  /**
   * Returns the drift of a probe: 1 - similarity to the previous epoch, mean over the run.
   * @param {number} probe
   */
  probeDrift(probe) {
    return 1 - finiteMean(this.curve("similarity_previous", probe).map(([, value]) => value));
  }

  /**
   * Names a class.
   * @param {number} index
   * @param {string} [kind] stands before the number of a class without a name
   */
  className(index, kind = "class") {
    const names = this.info?.class_names ?? {};
    return Object.hasOwn(names, String(index)) ? names[String(index)] : `${kind} ${index}`;
  }

  /** What the score is, and the factor to show it with: a distance is logged with a minus sign. */
  get quantity() {
    const [name, factor] = this.info?.quantity ?? ["score", 1];
    return { name, factor };
  }

  /** Returns the decimals for the scores of each step: enough to tell them apart within the step and over the run. */
  #decimalsOfScores() {
    const { factor } = this.quantity;
    const probes = Array.from({ length: this.probeCount }, (_, probe) => probe);
    const scores = (/** @type {number} */ step) => probes.map((probe) => factor * this.number("score", step, probe));
    const needed = (/** @type {number[]} */ values) => decimals(...(extent(values) ?? [0, 0]));
    const { steps } = this.numbers;
    const ofRun = needed(steps.flatMap(scores));
    // The few probes of one step are told apart by one decimal less.
    return new Map(steps.map((step) => [step, Math.max(ofRun, needed(scores(step)) - 1)]));
  }

  /**
   * Returns the label of a probe in words, or null.
   * @param {number} probe
   */
  label(probe) {
    const label = this.info?.probes[probe]?.label;
    if (label === null || label === undefined) return null;
    const kind = this.info?.label ?? "class";
    return this.className(label, kind === "class" && !this.classifies ? "label" : kind);
  }

  /**
   * Returns what the model predicts for a probe.
   * @param {number} step
   * @param {number} probe
   */
  prediction(step, probe) {
    const predicted = this.number("predicted", step, probe);
    const label = this.info?.probes[probe]?.label ?? null;
    const classified = Number.isFinite(predicted);
    return {
      name: classified ? this.className(predicted) : null,
      probability: this.number("confidence", step, probe),
      score: this.quantity.factor * this.number("score", step, probe),
      wrong: classified && label !== null && predicted !== label,
      flipped: this.#flipped(step, probe),
    };
  }

  /** Returns the last step, up to `step`, at which the prediction changed, or null. */
  #flipped(/** @type {number} */ step, /** @type {number} */ probe) {
    let flips = this.flips.get(probe);
    if (!flips) {
      const predictions = this.curve("predicted", probe).filter(([, predicted]) => Number.isFinite(predicted));
      flips = predictions.filter(([, predicted], i) => i > 0 && predicted !== predictions[i - 1][1]).map(([at]) => at);
      this.flips.set(probe, flips);
    }
    return flips.findLast((at) => at <= step) ?? null;
  }

  /**
   * Tells whether guided pictures were logged: for the start, or for the epochs.
   * @param {number} step
   */
  hasGuided(step) {
    return step === START ? this.listing.has.start_guided : this.listing.has.guided;
  }

  /**
   * Returns the guided picture of a probe at a step; if it is not here yet, fetches and decodes it, and calls `arrived`
   * later. All probes of a step arrive together, and only those that are looked at are decoded.
   * @param {number} step
   * @param {number} probe
   * @param {() => void} arrived
   * @returns {{picture: ImageBitmap | null, error: string, loading: boolean}}
   */
  guided(step, probe, arrived) {
    const entry = this.guidedByStep.get(step) ?? this.#fetchGuided(step, arrived);
    if (!entry.encoded || entry.error) return { picture: null, error: entry.error, loading: !entry.error };
    let decoded = entry.decoded.get(probe);
    if (!decoded) {
      const fresh = { picture: /** @type {ImageBitmap | null} */ (null), error: "", loading: true };
      decoded = fresh;
      entry.decoded.set(probe, fresh);
      decodePictures(entry.encoded.slice(probe, probe + 1)).then(([picture = null]) => {
        Object.assign(fresh, { picture, loading: false });
        arrived();
      });
    }
    return decoded;
  }

  /**
   * Fetches the guided pictures of a step.
   * @param {number} step
   * @param {() => void} arrived
   */
  #fetchGuided(step, arrived) {
    if (this.guidedByStep.size >= GUIDED_KEPT) this.guidedByStep.delete(this.guidedByStep.keys().next().value ?? 0);
    const entry = /** @type {Guided} */ ({ encoded: null, decoded: new Map(), error: "" });
    this.guidedByStep.set(step, entry);
    fetchBinary("guided", this.name, `&epoch=${step}`)
      .then((buffer) => (entry.encoded = encodedPictures(buffer)))
      .catch((error) => (entry.error = String(error.message)))
      .finally(arrived);
    return entry;
  }
}
