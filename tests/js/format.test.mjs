// Run by tests/tensorboard_plugin/test_static.py: node --test tests/js
import assert from "node:assert/strict";
import test from "node:test";

const STATIC = process.env.GRADCAM_STATIC;
const format = await import(`${STATIC}/format.js`);

test("expected epochs", () => {
  assert.deepEqual(format.expectedEpochs([-1, 0, 1, 4], 1), [0, 1, 2, 3, 4]);
  assert.deepEqual(format.expectedEpochs([0, 5, 15, 17], 5), [0, 5, 10, 15, 17]);
  assert.deepEqual(format.expectedEpochs([3], 2), [3]);
  assert.deepEqual(format.expectedEpochs([-1], 1), []);
});

test("as many decimals as a range needs", () => {
  const pairs = [[0.9961, 0.9993], [0.2, 0.7], [0.5, 0.55], [0.99, 0.990001], [0, 1], [-40, 300], [1, 1], [Infinity, -Infinity]]; // prettier-ignore
  assert.deepEqual(pairs.map(([low, high]) => format.decimals(low, high)), [4, 2, 3, 4, 1, 0, 0, 0]); // prettier-ignore
  const cases = [[0.9961, 4], [0.9993, 4], [0.5, 0], [0.5, 1], [0.5, 3], [0.004, 4], [0.00004, 4], [-3, 3], [150, 0], [150.25, 2]]; // prettier-ignore
  assert.deepEqual(cases.map(([value, needed]) => format.formatted(value, needed)), [
    "0.9961", "0.9993", "0.50", "0.50", "0.500", "0.0040", "4.0e-5", "-3.000", "150", "150.25",
  ]); // prettier-ignore
});

test("texts", () => {
  assert.equal(format.shortened("cat"), "cat");
  assert.equal(Array.from(format.shortened("x".repeat(10000), 20)).length, 20);
  assert.equal(format.shortened("a\u202eb\nc\u0000"), "a b c ");
  assert.equal(format.shortened("🐼".repeat(9), 5), "🐼🐼…🐼🐼");
  assert.equal(format.shortened(null), "null");
  assert.deepEqual(
    [0, 0.5, 1e-7, 123456, 250, NaN, Infinity].map((value) => format.formatted(value)),
    ["0.00", "0.50", "1.0e-7", "1.2e+5", "250", "–", "–"],
  );
  assert.deepEqual([0.004, -0.004, -0.31, 1, NaN].map(format.twoDigits), ["0.00", "0.00", "-0.31", "1.00", "–"]);
});

test("names of steps", () => {
  assert.deepEqual([format.START, 0, 12].map(format.epochName), ["start", "epoch 0", "epoch 12"]);
});
