import assert from "node:assert/strict";
import test from "node:test";

const STATIC = process.env.GRADCAM_STATIC;
const store = await import(`${STATIC}/store.js`);
const paint = await import(`${STATIC}/paint.js`);
const figure = await import(`${STATIC}/figure.js`);

/** An answer as wire.py packs it. */
function packed(header, parts) {
  let end = 0;
  const places = parts.map((part) => {
    const place = [end, part.byteLength];
    end += Math.ceil(part.byteLength / 8) * 8;
    return place;
  });
  let text = JSON.stringify({ ...header, parts: places });
  text += " ".repeat((8 - ((text.length + 8) % 8)) % 8);
  const bytes = new Uint8Array(8 + text.length + end);
  bytes.set(new TextEncoder().encode("GCT1"));
  new DataView(bytes.buffer).setUint32(4, text.length, true);
  bytes.set(new TextEncoder().encode(text), 8);
  parts.forEach((part, i) => bytes.set(new Uint8Array(part.buffer), 8 + text.length + places[i][0]));
  return bytes.buffer;
}

/** @param {[number, number[], number[]][]} frames (step, shape, values) */
function series(frames) {
  const header = { frames: frames.map(([step, shape]) => [step, 4, ...shape]), unreadable: 0 };
  return packed(
    header,
    frames.map(([, , values]) => Float32Array.from(values)),
  );
}

/** Pictures here are two bytes: height and width. */
const pictures = (...sizes) =>
  packed(
    {},
    sizes.map((size) => Uint8Array.from(size)),
  );

const ANSWERS = {
  maps: series([
    [0, [2, 1, 2], [1, 2, 0, 0]],
    [1, [2, 1, 2], [1, 8, 0, 0]],
  ]),
  partner_maps: series([[0, [2, 2, 1], [0, 0, 3, 0]]]),
  pictures: pictures([8, 4], [8, 4]),
  partners: pictures([8, 4], [6, 6]),
};

/** A run that was loaded from made-up answers, and the routes it asked for. */
async function loaded(has, answers = {}, columns = ["predicted", "score"]) {
  const asked = [];
  globalThis.createImageBitmap = async (blob) => {
    const [height, width] = new Uint8Array(await blob.arrayBuffer());
    return { height, width };
  };
  globalThis.fetch = async (path) => {
    const route = path.match(/^\.\/(\w+)\?run=a%2Fb$/)[1];
    asked.push(route);
    const body = { ...ANSWERS, ...answers }[route];
    return body ? new Response(body) : new Response("nothing", { status: 404 });
  };
  const info = { columns, probes: [], class_names: {}, input_size: [10, 20] };
  const run = new store.Run({ name: "a/b", revision: "1", info, has });
  await run.load();
  assert.equal(run.error, "");
  return { run, asked };
}

const ALONE = { maps: true, pictures: true };
const PAIRS = { ...ALONE, partner_maps: true, partners: true };

test("a run without partners asks for nothing more", async () => {
  const { run, asked } = await loaded(ALONE);
  assert.deepEqual(asked.sort(), ["maps", "numbers", "pictures"]);
  assert.equal(run.partner, null);
  assert.deepEqual(run.sides, [run.own]);
  assert.equal(figure.places(run), 1);
});

test("partners have maps, scales and sizes of their own", async () => {
  const { run, asked } = await loaded(PAIRS);
  assert.deepEqual(asked.sort(), ["maps", "numbers", "partner_maps", "partners", "pictures"]);
  assert.deepEqual(run.steps, [0, 1]);
  assert.equal(run.probeCount, 2);
  const [own, partner] = run.sides;
  assert.deepEqual([own.vmax, partner.vmax], [[8, 0], [0, 3]]); // prettier-ignore
  assert.deepEqual(own.grid(1, 0), { map: Float32Array.from([1, 8]), h: 1, w: 2, spans: null });
  assert.deepEqual(partner.grid(0, 1), { map: Float32Array.from([3, 0]), h: 2, w: 1, spans: null });
  const scales = ["run", "frame"].map((scale) => [own, partner].map((side) => paint.vmaxOf(side, 0, 0, { scale })));
  assert.deepEqual(scales, [[8, 0], [2, 0]]); // prettier-ignore
  assert.deepEqual(paint.probeSize(run, own, 1, 8), { height: 8, width: 4 });
  assert.deepEqual(paint.probeSize(run, partner, 1, 8), { height: 6, width: 6 });
});

test("what is missing of a partner is missing, and nothing else", async () => {
  const { run } = await loaded(PAIRS);
  assert.equal(run.partner.grid(1, 0), null);
  assert.equal(run.partner.grid(0, 2), null);
  assert.notEqual(run.own.grid(1, 0), null);
  const plain = (await loaded({ ...ALONE, partners: true })).run;
  assert.equal(plain.partner.pictures.length, 2);
  assert.equal(plain.partner.grid(0, 0), null);
  const blind = (await loaded({ ...ALONE, partner_maps: true })).run;
  assert.notEqual(blind.partner.grid(0, 0), null);
  assert.deepEqual(paint.probeSize(blind, blind.partner, 0, 20), { height: 10, width: 20 });
});

test("pictures of people standing fit one place, others take two", async () => {
  assert.equal(figure.places((await loaded(PAIRS)).run), 1);
  const wide = { pictures: pictures([8, 8]), partners: pictures([8, 8]) };
  assert.equal(figure.places((await loaded(PAIRS, wide)).run), 2);
});

test("maps are compared where label and pictures are the same", async () => {
  const labelled = async (labels, has = ALONE, answers = {}) => {
    const { run } = await loaded(has, answers);
    run.info.probes = labels.map((label) => ({ label, region: null }));
    return run;
  };
  const run = await labelled([0, 1]);
  const unlike = (other, probe = 0) => store.unlike(run, other, probe);
  assert.equal(unlike(await labelled([0, 1])), "");
  assert.equal(unlike(await labelled([1, 1])), "another label");
  assert.equal(unlike(await labelled([null, 1])), "another label");
  assert.equal(unlike(await labelled([1, 1]), 1), "");
  assert.equal(unlike(await labelled([0, 1], ALONE, { pictures: pictures([8, 4], [8, 5]) })), "");
  assert.equal(unlike(await labelled([0, 1], ALONE, { pictures: pictures([8, 4], [8, 5]) }), 1), "another picture");
  assert.equal(unlike(await labelled([0, 1], { maps: true })), "no picture was logged");
  assert.equal(unlike(await labelled([0, 1]), 2), "no such probe");
  // A run without partners has nothing against one with them.
  const pair = await labelled([0, 1], PAIRS);
  assert.equal(unlike(pair), "");
  const others = await labelled([0, 1], PAIRS, { partners: pictures([8, 4], [6, 7]) });
  assert.deepEqual([0, 1].map((probe) => store.unlike(pair, others, probe)), ["", "another partner"]); // prettier-ignore
});

test("scores have the decimals that tell them apart", async () => {
  const decimals = async (first, second) => {
    const numbers = series([first, second].map((scores, i) => [i, [2, 2], [NaN, scores[0], NaN, scores[1]]]));
    return [...(await loaded(ALONE, { numbers })).run.scoreDecimals.values()];
  };
  assert.deepEqual(await decimals([0.9961, 0.9993], [0.9975, 0.998]), [4, 4]);
  assert.deepEqual(await decimals([0.1, 0.9], [0.5, 0.7]), [2, 2]);
  // Alike at first, apart later.
  assert.deepEqual(await decimals([0.9961, 0.9993], [0.2, 0.7]), [3, 2]);
  assert.deepEqual(await decimals([NaN, NaN], [NaN, NaN]), [0, 0]);
});

test("a run predicts classes unless its numbers say that it never did", async () => {
  const never = { numbers: series([[0, [2, 2], [NaN, 0.8, NaN, 0.9]]]) };
  const once = { numbers: series([[0, [2, 2], [NaN, 0.8, NaN, 0.9]], [1, [2, 2], [NaN, 1, 3, 1]]]) }; // prettier-ignore
  assert.equal((await loaded(ALONE)).run.classifies, true);
  assert.equal((await loaded(ALONE, once)).run.classifies, true);
  const { run } = await loaded(PAIRS, never);
  assert.equal(run.classifies, false);
  assert.ok(Math.abs(run.prediction(0, 1).score - 0.9) < 1e-6);
});
