"""Pictures and raw maps in a folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
from log_entries import RUN, entry, frame
from PIL import Image

from keras_gradcam.drawing.filmstrips import Filmstrip
from keras_gradcam.drawing.panels import overview
from keras_gradcam.errors import ArgumentError
from keras_gradcam.training.history import Recorder
from keras_gradcam.training.writers.base import Summary
from keras_gradcam.training.writers.folder import FolderWriter


def test_the_folder_of_files_is_what_the_manifest_says(tmp_path):
    recorder = Recorder()
    recorder.add(None, np.eye(2)[None], {"score": np.ones(1)})
    recorder.add(3, np.eye(2)[None] * 2, {"score": np.ones(1)})
    filmstrip = Filmstrip((frame(), frame()), (("a",), ("b",)), (np.nan, 1.0))
    writer = FolderWriter(str(tmp_path / "new"))
    writer.prepare(RUN)
    writer.write(entry(3))
    assert not (tmp_path / "new" / "manifest.json").exists()
    writer.summarize(Summary(recorder.history(), (filmstrip,), "# report"))
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
    assert manifest["epochs"] == [3]
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"manifest.json", *manifest["files"]}
    with np.load(tmp_path / "new" / "run.npz") as stored:
        np.testing.assert_array_equal(stored["maps"], np.eye(2)[None, None] * 2)
        np.testing.assert_array_equal(stored["start_maps"], np.eye(2)[None])


def test_the_overview_is_that_of_the_latest_epoch(tmp_path):
    writer = FolderWriter(str(tmp_path))
    writer.prepare(RUN)
    for epoch in (0, 1):
        writer.write(entry(epoch))
    expected = overview(entry(1).frames, "epoch 1")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "overview.png")), expected)


def test_a_file_in_the_way_is_told_of_before_anything_is_written(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ArgumentError, match="`save_dir` must be a folder that can be written to"):
        FolderWriter(str(tmp_path / "taken")).prepare(RUN)
