// Run by tests/tensorboard_plugin/test_static.py: node --test tests/js
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const STATIC = process.env.GRADCAM_STATIC;
const maps = await import(`${STATIC}/maps.js`);
/** Made by Python, with the package's own functions. */
const cases = JSON.parse(readFileSync(process.env.GRADCAM_CASES, "utf8"));

const near = (actual, expected, tolerance, what) => {
  assert.equal(actual.length, expected.length, what);
  actual.forEach((value, i) =>
    assert.ok(Math.abs(value - expected[i]) <= tolerance, `${what} ${i}: ${value} ${expected[i]}`),
  );
};

test("upsample as Python does", () => {
  for (const { map, h, w, height, width, spans, result } of cases.upsample) {
    const what = `${h}x${w} to ${height}x${width}, ${spans}`;
    near(maps.upsample(Float32Array.from(map), h, w, height, width, spans), result, 1e-5, what);
  }
});

test("overlay as Python does", () => {
  for (const { map, h, w, height, width, picture, vmax, colormap, result } of cases.overlay) {
    const pixels = new Uint8ClampedArray(height * width * 4);
    const under = Uint8ClampedArray.from({ length: height * width * 4 }, (_, i) =>
      i % 4 === 3 ? 255 : picture[(i >> 2) * 3 + (i % 4)],
    );
    const values = Float32Array.from(map, (value) => (value === null ? NaN : value));
    maps.overlay(pixels, under, { map: values, h, w }, { height, width }, vmax, maps.colorTable(colormap), 0.75);
    near(
      pixels.filter((_, i) => i % 4 !== 3),
      result,
      1,
      colormap,
    );
  }
});

test("colour tables as matplotlib's", () => {
  for (const [name, table] of Object.entries(cases.tables)) near(maps.colorTable(name), table, 0, name);
  assert.deepEqual(maps.colorTable("constructor"), maps.colorTable("inferno"));
});

test("rank correlation as SciPy's", () => {
  for (const { a, b, result } of cases.spearman) {
    assert.ok(Math.abs(maps.rankCorrelation(a, b) - result) < 1e-9, `${a} ${b}`);
  }
});

test("no correlation without an order", () => {
  assert.ok(Number.isNaN(maps.rankCorrelation([1, 1, 1], [1, 2, 3])));
  assert.ok(Number.isNaN(maps.rankCorrelation([1, NaN, 1], [1, 2, 3])));
  assert.ok(Number.isNaN(maps.rankCorrelation([1, 2, Infinity], [1, 2, 3])));
  assert.ok(Number.isNaN(maps.rankCorrelation([], [])));
  assert.ok(Number.isNaN(maps.rankCorrelation([1, 2], [1, 2, 3])));
});

test("maps on two grids are compared on the finer one", () => {
  const coarse = { map: Float32Array.from([0, 1, 2, 3]), h: 2, w: 2 };
  const fine = { map: maps.upsample(coarse.map, 2, 2, 4, 3), h: 4, w: 3 };
  assert.equal(maps.similarity(coarse, fine), 1);
  assert.equal(maps.similarity(fine, coarse), 1);
});

test("warnings", () => {
  assert.equal(maps.remark(Float32Array.from([0, 0])), "map is zero");
  assert.equal(maps.remark(Float32Array.from([0, NaN])), "map is not finite");
  assert.equal(maps.remark(Float32Array.from([0, Infinity])), "map is not finite");
  assert.equal(maps.remark(Float32Array.from([0, 1e-30])), "");
  assert.equal(maps.remark(Float32Array.from([0, 0.2]), 1), "peak 20 % of scale");
  assert.equal(maps.remark(Float32Array.from([0, 1e-5]), 1), "peak below 1 % of scale");
  assert.equal(maps.remark(Float32Array.from([0, 0.3]), 1), "");
  assert.equal(maps.peak(Float32Array.from([0, NaN, Infinity, 3, -5])), 3);
});

test("the mean of what is finite", () => {
  assert.ok(Number.isNaN(maps.finiteMean([NaN])));
  assert.equal(maps.finiteMean([NaN, 1, 2]), 1.5);
});

test("a difference is orange where the first map is stronger, blue where the second is, grey elsewhere", () => {
  const [first, second] = [
    [1, 0, 0.5],
    [0, 1, 0.5],
  ].map((values) => ({ map: Float32Array.from(values), h: 1, w: 3 }));
  const picture = Uint8ClampedArray.from([255, 0, 0, 255, 255, 0, 0, 255, 255, 0, 0, 255]);
  const pixels = new Uint8ClampedArray(12);
  maps.difference(pixels, picture, first, second, { height: 1, width: 3 }, 1);
  const grey = 0.299 * 255;
  const mixed = (color) => color.map((channel) => Math.round(grey + (channel - grey) * 0.85));
  const expected = [...mixed([230, 97, 1]), 255, ...mixed([44, 123, 182]), 255, 76, 76, 76, 255];
  assert.deepEqual([...pixels], expected);
});
