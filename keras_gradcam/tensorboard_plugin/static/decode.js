// @ts-check
// Decodes the binary answers of the server. No DOM, no network.

/**
 * Arrays over epochs: the shape and the values of each step.
 * @typedef {{steps: number[], shapes: number[][], data: Float32Array[], unreadable: number}} Series
 */

let halfTable = /** @type {Float32Array | null} */ (null);

/** Returns the values of all 65536 half-precision numbers. */
function halves() {
  if (halfTable) return halfTable;
  halfTable = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) halfTable[bits] = fraction ? NaN : sign * Infinity;
    else if (exponent === 0) halfTable[bits] = sign * fraction * 2 ** -24;
    else halfTable[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return halfTable;
}

/**
 * Converts half-precision numbers to single precision.
 * @param {Uint16Array} bits
 */
export function decodeHalf(bits) {
  const table = halves();
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = table[bits[i]];
  return values;
}

/**
 * Splits a binary answer into its header and its parts, see wire.py.
 * @param {ArrayBuffer} buffer
 * @returns {{header: any, parts: {offset: number, length: number}[]}}
 */
export function unpack(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 8 || view.getUint32(0, false) !== 0x47435431)
    throw new Error("The answer has an unknown format.");
  const begin = 8 + view.getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, begin - 8)));
  return { header, parts: header.parts.map(([offset, length]) => ({ offset: begin + offset, length })) };
}

/**
 * Decodes the maps or the numbers of a run.
 * @param {ArrayBuffer} buffer
 * @returns {Series}
 */
export function decodeSeries(buffer) {
  const { header, parts } = unpack(buffer);
  const data = header.frames.map(([, bytes], i) => {
    const { offset, length } = parts[i];
    if (bytes === 2) return decodeHalf(new Uint16Array(buffer, offset, length / 2));
    return new Float32Array(buffer, offset, length / 4);
  });
  return {
    steps: header.frames.map((frame) => frame[0]),
    shapes: header.frames.map((frame) => frame.slice(2)),
    data,
    unreadable: header.unreadable,
  };
}

/**
 * Tells whether two byte strings are equal.
 * @param {Uint8Array} a
 * @param {Uint8Array} b
 */
export function sameBytes(a, b) {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}
