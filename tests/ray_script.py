"""Scenarios on a Ray cluster of two processors, each in a process of its own: Ray starts others and logs a lot.

    python tests/ray_script.py SCENARIO PLACE MODEL

PLACE holds a folder of pictures; results go beside it. Prints a line of JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import tarfile
import threading
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def slowly(pixels):
    time.sleep(0.25)
    return pixels


def explained(source, model, out, **options):
    from keras_gradcam.datasets import explain_dataset

    summary = explain_dataset(source, model, out, engine="ray", actors=2, progress=False, batch_size=2, **options)
    return [summary.explained, summary.before, summary.failed]


def write_tables(place: Path) -> dict[str, bytes]:
    """Writes the pictures as Parquet, as a WebDataset and as TFRecords; returns them by name."""
    import pyarrow
    import pyarrow.parquet
    import tensorflow as tf

    contents = {path.stem: path.read_bytes() for path in sorted((place / "pictures").iterdir())}
    table = pyarrow.table({"jpg": list(contents.values()), "key": list(contents)})
    pyarrow.parquet.write_table(table, place / "pictures.parquet", row_group_size=11)
    with tarfile.open(place / "pictures.tar", "w") as file:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"{name}.jpg")
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    with tf.io.TFRecordWriter(str(place / "pictures.tfrecord")) as writer:
        for name, content in contents.items():
            features = {
                key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for key, value in (("jpg", content), ("key", name.encode()))
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return contents


def sources(place: Path, model: str) -> dict:
    import ray.data

    from keras_gradcam.errors import ArgumentError

    contents = write_tables(place)
    pictures, columns = str(place / "pictures"), {"image": "jpg", "id": "key"}
    counts = {"folder": explained(pictures, model, place / "folder")}
    counts["again"] = explained(pictures, model, place / "folder")
    counts["parquet"] = explained(str(place / "pictures.parquet"), model, place / "parquet", columns=columns)
    tar = {"image": "jpg", "id": "__key__"}
    counts["webdataset"] = explained(str(place / "pictures.tar"), model, place / "webdataset", columns=tar)
    counts["tfrecord"] = explained(str(place / "pictures.tfrecord"), model, place / "tfrecord", columns=columns)
    dataset = ray.data.from_items([{"jpg": content, "key": name} for name, content in contents.items()])
    counts["dataset"] = explained(dataset, model, place / "dataset", columns=columns)
    try:
        explained(pictures, model, place / "refused", layer="conv9")
    except ArgumentError as error:
        counts["refused"] = str(error)
    counts["lost folder"] = lost_folder(place, model)
    return counts


def lost_folder(place: Path, model: str) -> str:
    """Removes the folder of the results while rows are written to it."""
    out = place / "lost"

    def remove():
        while not list(out.glob("*.parquet")):
            time.sleep(0.05)
        shutil.rmtree(out)

    threading.Thread(target=remove, daemon=True).start()
    try:
        explained(str(place / "pictures"), model, out, preprocess=slowly)
    except OSError as error:
        return f"{type(error).__name__}: {error.strerror}"
    return "no error"


def killed_worker(place: Path, model: str) -> dict:
    killed = []

    def kill():
        while not killed:
            time.sleep(0.5)
            if not list((place / "worker").glob("*.parquet")):
                continue
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if b"ray::" in (title := (process / "cmdline").read_bytes()) and b"_Explainer" in title:
                        os.kill(int(process.name), signal.SIGKILL)
                        killed.append(int(process.name))
                        return

    threading.Thread(target=kill, daemon=True).start()
    run = explained(str(place / "pictures"), model, place / "worker", preprocess=slowly)
    return {"run": run, "killed": killed}


def slow(place: Path, model: str) -> dict:
    return {"run": explained(str(place / "pictures"), model, place / "driver", preprocess=slowly)}


if __name__ == "__main__":
    import ray

    from keras_gradcam.datasets import ray_run

    ray_run._MOST_ROWS = 8
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    scenario = {"sources": sources, "killed worker": killed_worker, "slow": slow}[sys.argv[1]]
    # On a line of its own, whatever Ray prints meanwhile.
    print("\n" + json.dumps(scenario(Path(sys.argv[2]), sys.argv[3])), flush=True)
