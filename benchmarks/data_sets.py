"""Times explaining a data set beside ``model.predict`` over the same stream of decoded pictures.

    python benchmarks/data_sets.py                 # 2,000 pictures
    python benchmarks/data_sets.py --pictures 20000 --ray

Every line is a process of its own, so that its memory can be told; all read the same JPEGs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

BATCH = 32


def make_pictures(folder: Path, count: int) -> None:
    """Writes smooth pictures of 500 x 375 pixels, some 40 KB each, like photographs."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        if path.exists():
            continue
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        picture = np.asarray(small.resize((500, 375), Image.Resampling.BICUBIC)).astype(np.int16)
        picture += rng.integers(-12, 13, picture.shape, dtype=np.int16)
        buffer = io.BytesIO()
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(buffer, "jpeg", quality=80)
        path.write_bytes(buffer.getvalue())
        os.utime(path, (1_600_000_000, 1_600_000_000))


def predict(model: str, folder: str, out: str, _: str) -> tuple[int, float]:
    """The limit: Keras' own ``predict``, decoding one batch ahead with the same threads."""
    from keras_gradcam.datasets.batch import ExplainBatch
    from keras_gradcam.pictures.reading import one_ahead, slices

    explain_batch = ExplainBatch(model, preprocess="mobilenet_v2", batch_size=BATCH)
    session = explain_batch.session
    paths = sorted(map(str, Path(folder).iterdir()))
    batches = [{"image": paths[part]} for part in slices(len(paths), BATCH)]

    def stream():
        for decoded in one_ahead(explain_batch.decode, batches):
            yield (session.spec.preprocessing(decoded["image"].astype(np.float32)),)

    network = session.explainer.model
    network.predict(session.spec.blank().repeat(BATCH, axis=0), verbose=0)
    start = time.perf_counter()
    count = len(network.predict(stream(), verbose=0))
    return count, time.perf_counter() - start


def explain(model: str, folder: str, out: str, how: str) -> tuple[int, float]:
    """``explain_dataset``, Grad-CAM alone."""
    from keras_gradcam.datasets import ExplainBatch, explain_dataset

    explain_batch = ExplainBatch(model, preprocess="mobilenet_v2", batch_size=BATCH)
    options = {"engine": "ray", "actors": 2} if how == "ray" else {"shard": None if how == "local" else how}
    if how == "ray":
        threading.Thread(target=watch_actors, daemon=True).start()
    else:
        explain_batch.session  # noqa: B018  # loading and compiling is not what is timed
    summary = explain_dataset(folder, explain_batch, out, progress=False, **options)
    return summary.explained, summary.seconds


def watch_actors() -> None:
    """Keeps in ``actors`` the most memory that an actor of Ray has had."""
    global actors
    while True:
        time.sleep(1)
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if b"_Explainer" in (process / "cmdline").read_bytes():
                    lines = (process / "status").read_text().splitlines()
                    used = next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
                    actors = max(actors, used >> 10)


actors = 0


def resume(model: str, folder: str, out: str, count: str) -> tuple[int, float]:
    """A run in which everything is done already, of many small pictures and a small network."""
    import keras

    from keras_gradcam.datasets import ExplainBatch, explain_dataset

    small = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    pictures = Path(folder).parent / "many"
    pictures.mkdir(exist_ok=True)
    first = sorted(Path(folder).iterdir())[0]
    content = _shrunk(first)
    for number in range(int(count)):
        (pictures / f"{number}.jpg").write_bytes(content)
        os.utime(pictures / f"{number}.jpg", (1_600_000_000, 1_600_000_000))
    explain_batch = ExplainBatch(small, preprocess="1/255,0", batch_size=256)
    explain_dataset(str(pictures), explain_batch, out, progress=False)
    start = time.perf_counter()
    summary = explain_dataset(str(pictures), explain_batch, out, progress=False)
    return summary.before, time.perf_counter() - start


def _shrunk(path: Path) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(path).resize((16, 16)).save(buffer, "jpeg")
    return buffer.getvalue()


def check_same_rows(first: str, second: str) -> int:
    """Returns the number of rows in two folders of results; fails unless they are the same to the last bit."""
    import pyarrow.dataset

    tables = []
    for folder in (first, second):
        files = sorted(map(str, Path(folder).glob("*.parquet")))
        tables.append(pyarrow.dataset.dataset(files).to_table().sort_by("id").replace_schema_metadata())
    for name in tables[0].column_names:
        for one, other in zip(*(table[name].to_pylist() for table in tables), strict=True):
            if one != other:
                raise AssertionError(f"{name}: {one} and {other}")
    return len(tables[0])


def run_alone(name: str, *words: str) -> dict:
    """Runs a function of this file in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--run", name, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints pictures a second, their ratio to the limit, and peak memory."""
    import keras

    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--folder", help="where the pictures are kept")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--resume", type=int, default=0, metavar="N", help="also go on with so many that are done")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(options.folder or f"{place}/pictures")
        make_pictures(folder, options.pictures)
        keras.utils.set_random_seed(0)
        model = f"{place}/model.keras"
        keras.applications.MobileNetV2(weights=None).save(model)
        lines = [("model.predict", "predict", ["-"]), ("default", "explain", ["local"])]
        lines += [("--shard 1/2, then 2/2", "explain", ["1/2", "2/2"])]
        lines += [("Ray, two actors", "explain", ["ray"])] if options.ray else []
        limit = 0.0
        print(f"{'':24}{'pictures':>9}{'a second':>10}{'ratio':>7}{'peak MB':>9}")
        for index, (title, name, hows) in enumerate(lines):
            parts = [run_alone(name, model, str(folder), f"{place}/out{index}", how) for how in hows]
            count = sum(part["count"] for part in parts)
            rate = count / sum(part["seconds"] for part in parts)
            limit = limit or rate
            peak = max(part["peak"] for part in parts)
            rows = check_same_rows(f"{place}/out1", f"{place}/out{index}") if index > 1 else 0
            notes = [f"the same {rows} rows"] if rows else []
            notes += [f"an actor {part['actors']} MB" for part in parts if part["actors"]]
            print(f"{title:24}{count:9}{rate:10.1f}{rate / limit:7.2f}{peak:9}  {', '.join(notes)}", flush=True)
        if options.resume:
            done = run_alone("resume", model, str(folder), f"{place}/resumed", str(options.resume))
            print(f"going on with {done['count']} finished pictures: {done['seconds']:.1f} s, {done['peak']} MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        import resource

        number, seconds = globals()[sys.argv[2]](*sys.argv[3:])
        # Of the process itself: a cluster of Ray has others.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(json.dumps({"count": number, "seconds": seconds, "peak": peak, "actors": actors}))
    else:
        main()
