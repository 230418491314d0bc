// @ts-check
// Fetches the answers of the server: the list of runs, arrays, pictures.

import { unpack } from "./decode.js";

/**
 * What the server tells of a run; `info` is RunInfo of metadata.py.
 * @typedef {{label: number | null, region: [number, number, number, number] | null}} Probe
 * @typedef {{layer: string | null, target: string, quantity?: [string, number], label?: string, methods: string[],
 *   input_size: [number, number], spans?: import("./maps.js").Spans | null, colormap: string, scale?: string, class_names: Record<string, string>, every: number,
 *   columns: string[], probes: Probe[]}} RunInfo
 * @typedef {{name: string, revision: string, last_epoch: number | null, info: RunInfo | null,
 *   error: string | null, has: {maps: boolean, partner_maps: boolean, guided: boolean, start_guided: boolean,
 *   pictures: boolean, partners: boolean}}} Listing
 */

class HttpError extends Error {
  /** @param {number} status @param {string} text */
  constructor(status, text) {
    super(`${status} ${text.slice(0, 200)}`.trim());
    this.status = status;
  }
}

/**
 * Fetches a path; an answer that is not OK raises.
 * @param {string} path
 */
async function fetchChecked(path) {
  const response = await fetch(path);
  if (!response.ok) throw new HttpError(response.status, await response.text());
  return response;
}

/**
 * Fetches an answer in JSON.
 * @param {string} path
 * @returns {Promise<any>}
 */
export async function fetchJSON(path) {
  return (await fetchChecked(path)).json();
}

/**
 * Turns "not found" into null.
 * @template T
 * @param {Promise<T>} promise
 * @returns {Promise<T | null>}
 */
export function optional(promise) {
  return promise.catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
}

/**
 * Fetches the list of runs.
 * @returns {Promise<Listing[]>}
 */
export async function fetchRuns() {
  return (await fetchJSON("./runs")).runs;
}

/**
 * Fetches a binary answer about a run.
 * @param {string} route
 * @param {string} run
 * @param {string} [more]
 */
export async function fetchBinary(route, run, more = "") {
  return (await fetchChecked(`./${route}?run=${encodeURIComponent(run)}${more}`)).arrayBuffer();
}

/**
 * Returns the encoded pictures of an answer.
 * @param {ArrayBuffer} buffer
 */
export function encodedPictures(buffer) {
  return unpack(buffer).parts.map(({ offset, length }) => new Uint8Array(buffer, offset, length));
}

/**
 * Decodes pictures.
 * @param {Uint8Array<ArrayBuffer>[]} encoded
 * @returns {Promise<(ImageBitmap | null)[]>} null for bytes that are no picture
 */
export function decodePictures(encoded) {
  return Promise.all(encoded.map((bytes) => createImageBitmap(new Blob([bytes])).catch(() => null)));
}
