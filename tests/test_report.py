"""The report in words."""

from __future__ import annotations

import numpy as np

from keras_gradcam.history import Recorder
from keras_gradcam.report import drift_report


def recorded(series, predicted):
    recorder = Recorder()
    for epoch, (maps, classes) in enumerate(zip(series, predicted, strict=True)):
        said = {"score": np.ones(len(maps)), "predicted": np.array(classes), "confidence": np.ones(len(maps))}
        recorder.add(epoch, np.asarray(maps, float), said)
    return recorder.history()


def test_the_probe_that_moved_most_comes_first_and_flips_are_named():
    still, left, right = [[1.0, 2.0, 3.0]], [[9.0, 1.0, 2.0]], [[1.0, 2.0, 9.0]]
    series = [[still, left], [still, right], [still, right], [still, right]]
    text = drift_report(recorded(series, [[0, 1], [0, 2], [0, 2], [0, 1]]), lambda number: f"probe {number}")
    rows = [line for line in text.splitlines() if line.startswith("| probe ")][1:]
    assert rows == [
        "| probe 1 | 0.5 | epoch 1 | 2 times, at 1, 3 |",
        "| probe 0 | 0 | epoch 0 | never |",
    ]
    assert "4 epochs logged, 0 to 3; 2 probes." in text


def test_missing_maps_are_counted_and_named():
    series = [[[[1.0, 2.0]], [[1.0, 2.0]]], [[[1.0, 2.0]], [[0.0, 0.0]]]]
    text = drift_report(recorded(series, [[0, 0], [0, 0]]), str)
    assert "| focus | - | 0.5 | 0.5 | 1 |" in text
    assert "no map at the end" in text


def test_names_cannot_break_the_table():
    text = drift_report(recorded([[[[1.0, 2.0]]]], [[0]]), lambda number: "a|b\n<img>")
    assert "a\\|b \\<img\\>" in text


def test_an_empty_run():
    assert drift_report(Recorder().history(), str) == "No epoch was logged.\n"
