"""Whole data sets: the same rows whoever explains them, once each, however often a run is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from cli_models import jpeg_bytes, network
from data_set_folders import LONG_AGO, assert_same_rows, rows_of, write_pictures

from keras_gradcam import Class
from keras_gradcam.datasets import ExplainBatch, batch, explain_dataset, open_results
from keras_gradcam.errors import ArgumentError
from keras_gradcam.files import lock_folder, unlock_folder


def run(source, model, out, **options):
    options = {"progress": False, **options}
    if isinstance(model, ExplainBatch):
        return explain_dataset(source, model, out, **options)
    return explain_dataset(source, model, out, batch_size=4, **options)


@pytest.fixture(scope="module")
def explained(pictures, model_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("explained")
    with pytest.warns(UserWarning, match=r"1 of 20 pictures could not be explained; .*p007\.jpg: is no picture"):
        summary = run(str(pictures), model_file, out)
    assert (summary.explained, summary.before, summary.failed) == (19, 0, 1)
    return out


def test_rows_are_those_of_a_batch(pictures, model_file, explained):
    paths = [str(pictures / f"p{number:03d}.jpg") for number in range(20)]
    expected = ExplainBatch(model_file, batch_size=4)({"image": paths, "id": paths})
    rows = rows_of(explained)
    assert list(rows) == sorted(paths) or set(rows) == set(paths)
    for index, path in enumerate(paths):
        row = rows[path]
        if index == 7:
            assert row["failure"] == "is no picture that can be read"
            continue
        assert row["failure"] is None
        for name in ("class", "score", "probability", "predicted", "confidence", "focus", "gradcam_max"):
            assert row[name] == expected[name][index], name
        np.testing.assert_array_equal(row["gradcam"], expected["gradcam"][index].ravel())


def test_parts_give_the_same_rows(pictures, model_file, explained, tmp_path):
    for number in (3, 1, 2):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*could not be explained")  # in one of the parts
            run(str(pictures), model_file, tmp_path / "out", shard=f"{number}/3")
    assert_same_rows(rows_of(tmp_path / "out"), rows_of(explained))
    with pytest.raises(ArgumentError, match="shards: 3, not 1"):
        run(str(pictures), model_file, tmp_path / "out")


def test_parts_can_run_at_the_same_time(pictures, model_file, explained, tmp_path):
    script = (
        "import sys, warnings\n"
        "from keras_gradcam.datasets import explain_dataset\n"
        "explain_dataset(sys.argv[1], sys.argv[2], sys.argv[3], shard=sys.argv[4], batch_size=4, progress=False)\n"
    )
    words = [sys.executable, "-c", script, str(pictures), model_file, str(tmp_path / "out")]
    running = [subprocess.Popen([*words, f"{number}/2"], stderr=subprocess.DEVNULL) for number in (1, 2)]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    assert_same_rows(rows_of(tmp_path / "out"), rows_of(explained))


def test_a_second_run_reads_no_picture_that_is_done(model_file, tmp_path, monkeypatch):
    pictures = write_pictures(tmp_path / "in", 6)
    run(str(pictures), model_file, tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(batch, "decode_rows", None)
    summary = run(str(pictures), model_file, tmp_path / "out")
    assert (summary.explained, summary.before) == (0, 6)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_pictures_that_changed_are_explained_again(model_file, tmp_path):
    pictures = write_pictures(tmp_path / "in", 6)
    run(str(pictures), model_file, tmp_path / "out")
    before = rows_of(tmp_path / "out")
    changed = pictures / "p002.jpg"
    changed.write_bytes(jpeg_bytes(99))
    os.utime(changed, (LONG_AGO + 5, LONG_AGO + 5))
    (pictures / "p900.jpg").write_bytes(jpeg_bytes(900))
    summary = run(str(pictures), model_file, tmp_path / "out")
    assert (summary.explained, summary.before) == (2, 5)
    after = rows_of(tmp_path / "out")
    assert len(after) == 7
    assert after[str(changed)]["score"] != before[str(changed)]["score"]
    for name in before.keys() - {str(changed)}:
        assert after[name] == before[name]


@pytest.mark.parametrize("wait", [0.0, 0.7])
def test_a_killed_process_loses_nothing_that_was_written(pictures, model_file, explained, tmp_path, wait):
    script = (
        "import sys, time\n"
        "from keras_gradcam.datasets import ExplainBatch, explain_dataset, local_run\n"
        "local_run._MOST_ROWS = 4\n"
        "class Slow(ExplainBatch):\n"
        "    def explain(self, decoded):\n"
        "        time.sleep(0.3)\n"
        "        return super().explain(decoded)\n"
        "explain_dataset(sys.argv[1], Slow(sys.argv[2], batch_size=4), sys.argv[3], progress=False)\n"
    )
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(pictures), model_file, str(out)], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = len(rows_of(out))
    assert 4 <= found < 20
    with pytest.warns(UserWarning, match="could not be explained"):
        run(str(pictures), model_file, out)
    assert_same_rows(rows_of(out), rows_of(explained))


def test_a_folder_has_one_writer(pictures, model_file, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    lock = lock_folder(out)
    try:
        with pytest.raises(ArgumentError, match="`out` must not be written to by another process"):
            run(str(pictures), model_file, out)
    finally:
        unlock_folder(lock)


def test_other_settings_need_another_folder_or_overwrite(model_file, tmp_path):
    pictures = write_pictures(tmp_path / "in", 4)
    run(str(pictures), model_file, tmp_path / "out")
    with pytest.raises(ArgumentError, match=r"target: Class\(\), not Class\(1\)"):
        run(str(pictures), model_file, tmp_path / "out", target=Class(1))
    assert run(str(pictures), model_file, tmp_path / "out", target=Class(1), overwrite=True).explained == 4
    assert {row["class"] for row in rows_of(tmp_path / "out").values()} == {1}
    for number in (1, 2):
        run(str(pictures), model_file, tmp_path / "out", shard=(number, 2), overwrite=True)
    assert len(rows_of(tmp_path / "out")) == 4


def test_labels_regions_and_columns_of_the_data_set_go_along(model_file, tmp_path, pictures):
    paths = [str(pictures / f"p00{number}.jpg") for number in range(4)]
    table = {"file": paths, "cls": [0, 1, 2, 0], "box": [(2, 2, 30, 20)] * 3 + [None], "camera": [1, 1, 2, 2]}
    columns = {"image": "file", "id": "file", "label": "cls", "region": "box", "camera": "camera"}
    run(table, model_file, tmp_path / "out", columns=columns, target="label")
    rows = [rows_of(tmp_path / "out")[path] for path in paths]
    assert [row["label"] for row in rows] == [row["class"] for row in rows] == [0, 1, 2, 0]
    assert [row["camera"] for row in rows] == [1, 1, 2, 2]
    assert all(0 < row["mass_inside"] <= 1 for row in rows[:3])
    assert rows[3]["mass_inside"] is None


def test_a_progress_bar(model_file, tmp_path, capsys):
    run(str(write_pictures(tmp_path / "in", 4)), model_file, tmp_path / "out", progress=True)
    assert "4/4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "spark"}, "`engine` must be 'local' or 'ray'"),
        ({"shard": "4/3"}, "`shard` must"),
        ({"out": "s3://bucket"}, "`out` must be a folder"),
        ({"out": 3}, "`out` must be the path"),
        ({"overwrite": 1}, "`overwrite` must be True or False"),
        ({"layer": "conv9"}, "`layer` must"),
        ({"engine": "ray", "shard": "1/2"}, "`shard` must not be given beside the engine 'ray'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(pictures, model_file, tmp_path, options, message):
    out = options.pop("out", tmp_path / "out")
    with pytest.raises(ArgumentError, match=message):
        run(str(pictures), model_file, out, **options)
    assert not (tmp_path / "out").exists()


def test_an_explain_batch_has_its_own_options(pictures, tmp_path):
    with pytest.raises(ArgumentError, match="`model` must carry its options itself"):
        run(str(pictures), ExplainBatch(network()), tmp_path, layer="last")


def test_a_folder_that_cannot_be_written_to(pictures, model_file, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match="`out` must be a folder that can be written to"):
        run(str(pictures), model_file, tmp_path / "file")


def test_names_that_are_no_text(model_file, tmp_path):
    pictures = write_pictures(tmp_path / "in", 1)
    odd = os.fsencode(str(pictures)) + b"/\xff.jpg"
    with open(odd, "wb") as file:
        file.write(jpeg_bytes(1))
    assert run(str(pictures), model_file, tmp_path / "out").explained == 2
    assert any(name.endswith("\\udcff.jpg") for name in rows_of(tmp_path / "out"))
    os.utime(odd, (LONG_AGO, LONG_AGO))
    run(str(pictures), model_file, tmp_path / "out")
    assert run(str(pictures), model_file, tmp_path / "out").before == 2


def test_paths_lead_to_the_same_files_from_other_folders(model_file, tmp_path, monkeypatch):
    monkeypatch.chdir(os.path.dirname(model_file))
    explain_batch = ExplainBatch(os.path.basename(model_file))
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "in", 1)
    assert run("in", explain_batch, "out").out == str(tmp_path / "out")
    assert ExplainBatch("hf://user/model").model == "hf://user/model"


def test_a_model_without_classes(tmp_path):
    model = network(classes=1, activation="linear")
    run(str(write_pictures(tmp_path / "in", 3)), model, tmp_path / "out")
    for row in rows_of(tmp_path / "out").values():
        assert row["score"] is not None
        assert "class" not in row
    results = open_results(tmp_path / "out")
    assert results.plan.quantity == "value"
    assert results.find("lowest score").sheet().shape[2] == 3
    assert results.explanation().classes is None
    with pytest.raises(ArgumentError, match=r"'confidence'.*Candidates: a model with classes"):
        results.find("unsure")
