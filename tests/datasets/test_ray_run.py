"""A run on Ray: the same rows as here from every kind of data set, also when workers or the driver are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from data_set_folders import assert_same_rows, rows_of, write_pictures

from keras_gradcam.datasets import ExplainBatch, explain_dataset

pytest.importorskip("ray")
SCRIPT = Path(__file__).parents[1] / "ray_script.py"


@pytest.fixture(scope="module")
def place(model_file, tmp_path_factory):
    """A folder with forty pictures and what explaining them here gives."""
    place = tmp_path_factory.mktemp("ray")
    write_pictures(place / "pictures", 40, broken=(7,))
    with pytest.warns(UserWarning, match="could not be explained"):
        explain_dataset(
            str(place / "pictures"), ExplainBatch(model_file, batch_size=2), place / "local", progress=False
        )
    return place


def words(place, model_file, scenario):
    return [sys.executable, str(SCRIPT), scenario, str(place), model_file]


def ran(place, model_file, scenario):
    """Runs a scenario of the script; returns the JSON that it printed."""
    done = subprocess.run(words(place, model_file, scenario), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    # Ray may still say something of its own after that.
    return json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))


def test_every_kind_of_data_set_gives_the_same_rows(place, model_file):
    counts = ran(place, model_file, "sources")
    expected = rows_of(place / "local")
    assert counts["folder"] == [39, 0, 1]
    assert counts["again"] == [0, 39, 1]
    assert_same_rows(rows_of(place / "folder"), expected)
    by_name = {os.path.basename(name).removesuffix(".jpg"): row for name, row in expected.items()}
    for kind in ("parquet", "webdataset", "dataset", "tfrecord"):
        found = rows_of(place / kind)
        assert found.keys() == by_name.keys(), kind
        for name, row in found.items():
            assert row["score"] == by_name[name]["score"], (kind, name)
            assert row["gradcam"] == by_name[name]["gradcam"], (kind, name)
    assert counts["refused"].startswith("`layer` must")
    assert counts["lost folder"] == "FileNotFoundError: No such file or directory"


def test_a_killed_worker_costs_nothing(place, model_file):
    counts = ran(place, model_file, "killed worker")
    assert counts["killed"]
    assert counts["run"] == [39, 0, 1]
    assert_same_rows(rows_of(place / "worker"), rows_of(place / "local"))


def test_a_killed_driver_goes_on_where_it_was(place, model_file):
    process = subprocess.Popen(
        words(place, model_file, "slow"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    out, deadline = place / "driver", time.monotonic() + 200
    while len(list(out.glob("*.parquet"))) < 1 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    found = len(rows_of(out))
    assert 0 < found < 40
    counts = ran(place, model_file, "slow")
    assert counts["run"][1] >= found - 1
    assert_same_rows(rows_of(out), rows_of(place / "local"))
