// @ts-check
// Encodes an animated GIF (GIF89a). Arrays in, bytes out; no DOM.

/** The steps of red, green and blue of the palette; the rest of its 256 colours are greys. */
const STEPS = 6;
const GREYS = 256 - STEPS ** 3;
/** Channels that differ by less count as grey. */
const GREY_WITHIN = 10;
const MOST_CODES = 4096;

/** Returns the palette: a cube of colours, then greys. */
function palette() {
  const bytes = [];
  for (let i = 0; i < STEPS ** 3; i++)
    for (const digit of [Math.floor(i / STEPS ** 2), Math.floor(i / STEPS) % STEPS, i % STEPS])
      bytes.push(Math.round((digit * 255) / (STEPS - 1)));
  for (let i = 0; i < GREYS; i++) bytes.push(...Array(3).fill(Math.round((i * 255) / (GREYS - 1))));
  return bytes;
}

/**
 * Returns the palette's index of each pixel.
 * @param {Uint8ClampedArray} pixels RGBA
 */
function indexed(pixels) {
  const result = new Uint8Array(pixels.length / 4);
  const step = (/** @type {number} */ value) => Math.round((value * (STEPS - 1)) / 255);
  for (let i = 0; i < result.length; i++) {
    const [red, green, blue] = [pixels[4 * i], pixels[4 * i + 1], pixels[4 * i + 2]];
    const isGrey = Math.max(red, green, blue) - Math.min(red, green, blue) < GREY_WITHIN;
    result[i] = isGrey
      ? STEPS ** 3 + Math.round(((red + green + blue) * (GREYS - 1)) / 765)
      : (step(red) * STEPS + step(green)) * STEPS + step(blue);
  }
  return result;
}

/**
 * Compresses bytes as GIF wants it: LZW with codes of 9 to 12 bits, in blocks of at most 255 bytes.
 * @param {Uint8Array} bytes
 * @returns {number[]}
 */
function compressed(bytes) {
  const [clear, end] = [256, 257];
  /** @type {number[]} */
  const out = [];
  let buffer = 0;
  let held = 0;
  let width = 9;
  const write = (/** @type {number} */ code) => {
    buffer |= code << held;
    for (held += width; held >= 8; held -= 8, buffer >>>= 8) out.push(buffer & 255);
  };
  /** Code of a known sequence followed by a byte. @type {Map<number, number>} */
  let codes = new Map();
  let next = end + 1;
  write(clear);
  let prefix = bytes[0];
  for (let i = 1; i < bytes.length; i++) {
    const key = (prefix << 8) | bytes[i];
    const known = codes.get(key);
    if (known !== undefined) {
      prefix = known;
      continue;
    }
    write(prefix);
    prefix = bytes[i];
    if (next === MOST_CODES) {
      write(clear);
      codes = new Map();
      next = end + 1;
      width = 9;
      continue;
    }
    codes.set(key, next);
    // The reader knows a code one step later, so that codes grow when the one before the next does not fit.
    if (next === 1 << width) width += 1;
    next += 1;
  }
  write(prefix);
  write(end);
  if (held > 0) out.push(buffer & 255);
  const blocks = [];
  for (let start = 0; start < out.length; start += 255) {
    const block = out.slice(start, start + 255);
    blocks.push(block.length, ...block);
  }
  return [...blocks, 0];
}

/**
 * Encodes pictures of one size as an endless animation.
 * @param {Uint8ClampedArray[]} frames RGBA
 * @param {number} width
 * @param {number} height
 * @param {number} seconds per frame
 */
export function encodeGIF(frames, width, height, seconds) {
  const word = (/** @type {number} */ value) => [value & 255, value >> 8];
  const text = (/** @type {string} */ letters) => [...letters].map((letter) => letter.charCodeAt(0));
  const endless = [0x21, 0xff, 11, ...text("NETSCAPE2.0"), 3, 1, 0, 0, 0];
  const head = [...text("GIF89a"), ...word(width), ...word(height), 0xf7, 0, 0, ...palette(), ...endless];
  const parts = [Uint8Array.from(head)];
  for (const frame of frames) {
    const control = [0x21, 0xf9, 4, 0, ...word(Math.round(seconds * 100)), 0, 0];
    const place = [0x2c, 0, 0, 0, 0, ...word(width), ...word(height), 0];
    parts.push(Uint8Array.from([...control, ...place, 8]), Uint8Array.from(compressed(indexed(frame))));
  }
  return [...parts, Uint8Array.from([0x3b])];
}
