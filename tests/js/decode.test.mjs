// Run by tests/tensorboard_plugin/test_static.py: node --test tests/js
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const STATIC = process.env.GRADCAM_STATIC;
const decode = await import(`${STATIC}/decode.js`);
/** Made by Python, with the package's own functions. */
const cases = JSON.parse(readFileSync(process.env.GRADCAM_CASES, "utf8"));

const near = (actual, expected, tolerance, what) => {
  assert.equal(actual.length, expected.length, what);
  actual.forEach((value, i) =>
    assert.ok(Math.abs(value - expected[i]) <= tolerance, `${what} ${i}: ${value} ${expected[i]}`),
  );
};

test("every half-precision number", () => {
  const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const decoded = decode.decodeHalf(bits);
  const bytes = Buffer.from(cases.halves, "base64");
  const expected = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  for (let i = 0; i < 65536; i++)
    assert.ok(Object.is(decoded[i], expected[i]) || Number.isNaN(decoded[i] + expected[i]), i);
});

test("series", () => {
  const bytes = Buffer.from(cases.series.body, "base64");
  const series = decode.decodeSeries(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  assert.deepEqual(series.steps, [-1, 0, 7]);
  assert.deepEqual(series.shapes, [
    [1, 2, 3],
    [1, 2, 3],
    [2, 1, 1],
  ]);
  series.data.forEach((data, i) => near(data, cases.series.values[i], 0, i));
  assert.equal(series.unreadable, 2);
  assert.throws(() => decode.decodeSeries(new ArrayBuffer(20)), /unknown format/);
  assert.throws(() => decode.decodeSeries(new ArrayBuffer(0)), /unknown format/);
});
