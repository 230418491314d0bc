// Run by tests/test_tab_model.py: node --test tests/js
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const STATIC = process.env.GRADCAM_STATIC;
const model = await import(`${STATIC}/model.js`);
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
  const decoded = model.decodeHalf(bits);
  const bytes = Buffer.from(cases.halves, "base64");
  const expected = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  for (let i = 0; i < 65536; i++)
    assert.ok(Object.is(decoded[i], expected[i]) || Number.isNaN(decoded[i] + expected[i]), i);
});

test("upsample as Python does", () => {
  for (const { map, h, w, height, width, result } of cases.upsample) {
    near(model.upsample(Float32Array.from(map), h, w, height, width), result, 1e-5, `${h}x${w} to ${height}x${width}`);
  }
});

test("overlay as Python does", () => {
  for (const { map, h, w, height, width, picture, top, colormap, result } of cases.overlay) {
    const pixels = new Uint8ClampedArray(height * width * 4);
    const under = Uint8ClampedArray.from({ length: height * width * 4 }, (_, i) =>
      i % 4 === 3 ? 255 : picture[(i >> 2) * 3 + (i % 4)],
    );
    const values = Float32Array.from(map, (value) => (value === null ? NaN : value));
    model.overlay(pixels, under, { map: values, h, w }, { height, width }, top, model.colorTable(colormap), 0.75);
    near(
      pixels.filter((_, i) => i % 4 !== 3),
      result,
      1,
      colormap,
    );
  }
});

test("colour tables as matplotlib's", () => {
  for (const [name, table] of Object.entries(cases.tables)) near(model.colorTable(name), table, 0, name);
  assert.deepEqual(model.colorTable("constructor"), model.colorTable("inferno"));
});

test("rank correlation as SciPy's", () => {
  for (const { a, b, result } of cases.spearman) {
    assert.ok(Math.abs(model.rankCorrelation(a, b) - result) < 1e-9, `${a} ${b}`);
  }
});

test("no correlation without an order", () => {
  assert.ok(Number.isNaN(model.rankCorrelation([1, 1, 1], [1, 2, 3])));
  assert.ok(Number.isNaN(model.rankCorrelation([1, NaN, 1], [1, 2, 3])));
  assert.ok(Number.isNaN(model.rankCorrelation([1, 2, Infinity], [1, 2, 3])));
  assert.ok(Number.isNaN(model.rankCorrelation([], [])));
  assert.ok(Number.isNaN(model.rankCorrelation([1, 2], [1, 2, 3])));
});

test("maps on two grids are compared on the finer one", () => {
  const coarse = { map: Float32Array.from([0, 1, 2, 3]), h: 2, w: 2 };
  const fine = { map: model.upsample(coarse.map, 2, 2, 4, 3), h: 4, w: 3 };
  assert.equal(model.similarity(coarse, fine), 1);
  assert.equal(model.similarity(fine, coarse), 1);
});

test("remarks", () => {
  assert.equal(model.remark(Float32Array.from([0, 0])), "map is zero");
  assert.equal(model.remark(Float32Array.from([0, NaN])), "map is not finite");
  assert.equal(model.remark(Float32Array.from([0, Infinity])), "map is not finite");
  assert.equal(model.remark(Float32Array.from([0, 1e-30])), "");
  assert.equal(model.peak(Float32Array.from([0, NaN, Infinity, 3, -5])), 3);
});

test("series", () => {
  const bytes = Buffer.from(cases.series.body, "base64");
  const series = model.decodeSeries(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  assert.deepEqual(series.steps, [-1, 0, 7]);
  assert.deepEqual(series.shapes, [
    [1, 2, 3],
    [1, 2, 3],
    [2, 1, 1],
  ]);
  series.data.forEach((data, i) => near(data, cases.series.values[i], 0, i));
  assert.equal(series.unreadable, 2);
  assert.throws(() => model.decodeSeries(new ArrayBuffer(20)), /not one of ours/);
  assert.throws(() => model.decodeSeries(new ArrayBuffer(0)), /not one of ours/);
});

test("expected epochs", () => {
  assert.deepEqual(model.expectedEpochs([-1, 0, 1, 4], 1), [0, 1, 2, 3, 4]);
  assert.deepEqual(model.expectedEpochs([0, 5, 15, 17], 5), [0, 5, 10, 15, 17]);
  assert.deepEqual(model.expectedEpochs([3], 2), [3]);
  assert.deepEqual(model.expectedEpochs([-1], 1), []);
});

test("as many decimals as a range needs", () => {
  const pairs = [[0.9961, 0.9993], [0.2, 0.7], [0.5, 0.55], [0.99, 0.990001], [0, 1], [-40, 300], [1, 1], [Infinity, -Infinity]]; // prettier-ignore
  assert.deepEqual(pairs.map(([low, high]) => model.decimals(low, high)), [4, 2, 3, 4, 1, 0, 0, 0]); // prettier-ignore
  const cases = [[0.9961, 4], [0.9993, 4], [0.5, 0], [0.5, 1], [0.5, 3], [0.004, 4], [0.00004, 4], [-3, 3], [150, 0], [150.25, 2]]; // prettier-ignore
  assert.deepEqual(cases.map(([value, needed]) => model.formatted(value, needed)), [
    "0.9961", "0.9993", "0.50", "0.50", "0.500", "0.0040", "4.0e-5", "-3.000", "150", "150.25",
  ]); // prettier-ignore
});

test("texts", () => {
  assert.equal(model.shortened("cat"), "cat");
  assert.equal(Array.from(model.shortened("x".repeat(10000), 20)).length, 20);
  assert.equal(model.shortened("a\u202eb\nc\u0000"), "a b c ");
  assert.equal(model.shortened("🐼".repeat(9), 5), "🐼🐼…🐼🐼");
  assert.equal(model.shortened(null), "null");
  assert.deepEqual([0, 0.5, 1e-7, 123456, 250, NaN, Infinity].map((value) => model.formatted(value)), [
    "0.00",
    "0.50",
    "1.0e-7",
    "1.2e+5",
    "250",
    "–",
    "–",
  ]);
  assert.deepEqual([0.004, -0.004, -0.31, 1, NaN].map(model.twoDigits), ["0.00", "0.00", "-0.31", "1.00", "–"]);
  assert.ok(Number.isNaN(model.meanKnown([NaN])));
  assert.equal(model.meanKnown([NaN, 1, 2]), 1.5);
});
