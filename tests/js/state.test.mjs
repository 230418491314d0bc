import assert from "node:assert/strict";
import test from "node:test";

const STATIC = process.env.GRADCAM_STATIC;
const state = await import(`${STATIC}/state.js`);
const curves = await import(`${STATIC}/curves.js`);
const paint = await import(`${STATIC}/paint.js`);
const captions = await import(`${STATIC}/captions.js`);
const grid = await import(`${STATIC}/grid.js`);
const store = await import(`${STATIC}/store.js`);

test("the state survives the address", () => {
  const wanted = {
    ...state.defaults(),
    epoch: 12,
    probe: 3,
    runs: ["a,b/gradcam", "<img src=x>&p.gradcam.epoch=1#%", "ü"],
    view: "map",
    colors: "jet",
    opacity: 0.3,
    scale: "frame",
    sort: "mass",
    filter: "a & b = c",
    show: "wrong",
    pinned: 4,
    speed: 30,
  };
  const hash = state.toHash("#gradcam&runSettings=x%2Fy&p.gradcam.old=1", wanted);
  assert.ok(hash.startsWith("#gradcam&runSettings=x%2Fy&"));
  assert.ok(!hash.includes("old"));
  assert.deepEqual(state.fromHash(hash), wanted);
  assert.deepEqual(state.fromHash(state.toHash("", { ...wanted, epoch: -1, runs: [] })).epoch, -1);
});

test("the scale is the first run's unless one is chosen", () => {
  const [framed, old] = [{ info: { scale: "frame" } }, { info: {} }];
  assert.equal(state.shownScale([framed, old], null), "frame");
  assert.equal(state.shownScale([old, framed], null), "run");
  assert.equal(state.shownScale([{ info: null }], null), "run");
  assert.equal(state.shownScale([], null), "run");
  for (const scale of ["run", "frame"]) {
    const chosen = state.fromHash(state.toHash("", { ...state.defaults(), scale })).scale;
    assert.equal(state.shownScale([framed], chosen), scale);
  }
  assert.equal(state.fromHash("#p.gradcam.scale=log").scale, null);
});

test("the usual is not written", () => {
  assert.equal(state.toHash("#gradcam", state.defaults()), "#gradcam");
  assert.equal(state.toHash("", state.defaults()), "");
});

test("nonsense is the usual", () => {
  for (const hash of [
    "#gradcam&p.gradcam.epoch=%zz",
    "#p.gradcam.epoch=-5",
    "#p.gradcam.epoch=1e9",
    "#p.gradcam.view=constructor",
    "#p.gradcam.opacity=1000",
    "#p.gradcam.sort=__proto__",
    "#p.gradcam.runs=%25",
    "#p.gradcam.speed=7",
    "#&&&=&p.gradcam.",
  ]) {
    assert.deepEqual(state.fromHash(hash), state.defaults(), hash);
  }
});

test("the shown step", () => {
  assert.equal(state.shownStep([], 3), null);
  assert.equal(state.shownStep([-1, 0, 5, 9], null), 9);
  assert.equal(state.shownStep([-1, 0, 5, 9], 7), 5);
  assert.equal(state.shownStep([3, 5], 1), 3);
});

test("the shown runs", () => {
  assert.deepEqual(state.shownRuns(["a", "b"], null), ["a"]);
  assert.deepEqual(state.shownRuns(["a", "b"], ["b", "gone"]), ["b"]);
  assert.deepEqual(state.shownRuns(["a", "b"], ["gone"]), ["a"]);
  assert.deepEqual(state.shownRuns(["a", "b"], []), []);
  assert.equal(state.shownRuns([..."abcdef"], [..."abcdef"]).length, 4);
});

test("titles of runs", () => {
  assert.deepEqual([...state.runTitles(["a/gradcam", "b/gradcam"]).values()], ["a", "b"]);
  assert.deepEqual([...state.runTitles(["a/gradcam", "a"]).values()], ["a/gradcam", "a"]);
  assert.deepEqual([...state.runTitles(["gradcam"]).values()], ["gradcam"]);
});

test("curves leave gaps where nothing is known", () => {
  const points = [
    [0, 0],
    [1, NaN],
    [2, 1],
    [3, 0.5],
  ];
  assert.equal(curves.path(points, [0, 1, 2, 3], 0, 1, 22), "M0.0 21.0h0M666.7 1.0h0L1000.0 11.0");
  assert.equal(curves.path([[9, 1]], [0, 1], 0, 1, 22), "");
  assert.deepEqual(
    curves.range(
      [
        [
          [0, 2],
          [1, NaN],
        ],
      ],
      null,
    ),
    [1.5, 2.5],
  );
  assert.deepEqual(
    curves.range(
      [
        [
          [0, 0.2],
          [1, 0.4],
        ],
      ],
      [0, 1],
    ),
    [0, 1],
  );
  assert.equal(curves.range([[[0, NaN]]], [0, 1]), null);
});

test("sizes are the renderer's", () => {
  for (const [h, w, height, width] of [
    [28, 28, 252, 252],
    [224, 224, 224, 224],
    [1000, 500, 256, 128],
    [30, 100, 60, 200],
  ]) {
    assert.deepEqual(paint.cellSize(h, w, 256), { height, width });
  }
});

function madeRun(numbers, labels) {
  const columns = ["predicted", "mass", "similarity_previous"];
  const info = {
    columns,
    probes: labels.map((label) => ({ label, region: null })),
    class_names: { 0: "cat", 1: "Dog" },
  };
  const run = new store.Run({ name: "r", revision: "1", info, has: {} });
  run.numbers = {
    steps: numbers.map((_, step) => step),
    shapes: numbers.map((rows) => [rows.length, columns.length]),
    data: numbers.map((rows) => Float32Array.from(rows.flat())),
    unreadable: 0,
  };
  run.steps = run.numbers.steps;
  run.numberIndex = new Map(run.numbers.steps.map((step, i) => [step, i]));
  return run;
}

test("labels without a classifier are no classes, and nothing is wrong", () => {
  const run = madeRun(
    [
      [
        [NaN, 5, NaN],
        [NaN, 9, NaN],
        [NaN, 7, NaN],
      ],
    ],
    [7, 1, null],
  );
  assert.equal(run.label(0), "class 7");
  run.classifies = false;
  assert.deepEqual(
    [0, 1, 2].map((probe) => run.label(probe)),
    ["label 7", "Dog", null],
  );
  const prediction = run.prediction(0, 0);
  assert.deepEqual([prediction.name, prediction.wrong, prediction.flipped], [null, false, null]);
  const order = (sort, filter = "") => grid.orderedProbes([run], { sort, filter, show: "all" }, 0);
  assert.deepEqual(order("wrong"), [0, 1, 2]);
  assert.deepEqual(order("mass"), [1, 2, 0]);
  assert.deepEqual(order("label"), [1, 0, 2]);
  assert.deepEqual(order("index", "label 7"), [0]);
});

test("order, filter and flips", () => {
  const run = madeRun(
    [
      [
        [0, 5, NaN],
        [0, 9, NaN],
        [1, NaN, NaN],
      ],
      [
        [0, 5, 0.5],
        [1, 9, 0.9],
        [NaN, NaN, NaN],
      ],
      [
        [0, 1, 0.9],
        [1, 9, 0.9],
        [0, NaN, NaN],
      ],
    ],
    [0, 1, null],
  );
  const order = (sort, filter = "", step = 2) => grid.orderedProbes([run], { sort, filter, show: "all" }, step);
  assert.deepEqual(order("index"), [0, 1, 2]);
  assert.deepEqual(order("mass"), [1, 0, 2]);
  assert.deepEqual(order("drift"), [0, 1, 2]);
  assert.deepEqual(order("label"), [0, 1, 2]);
  assert.deepEqual(order("wrong", "", 0), [1, 0, 2]);
  assert.deepEqual(order("index", "dOg"), [1]);
  assert.deepEqual(order("index", "no label"), [2]);
  assert.deepEqual(
    [0, 1, 2].map((step) => run.prediction(step, 1).flipped),
    [null, 1, 1],
  );
  assert.deepEqual(
    [0, 1, 2].map((step) => run.prediction(step, 2).flipped),
    [null, null, 2],
  );
  assert.deepEqual(
    [0, 1].map((step) => run.prediction(step, 1).wrong),
    [true, false],
  );
  assert.equal(run.prediction(0, 2).wrong, false);
  assert.equal(run.label(2), null);
  assert.equal(run.className(7), "class 7");
  assert.ok(Number.isNaN(run.drift(0)));
  assert.ok(Math.abs(run.drift(1) - 0.3) < 1e-6);
  assert.equal(captions.runStep(run, 9), 2);
  assert.equal(captions.runStep(run, -1), null);
});
