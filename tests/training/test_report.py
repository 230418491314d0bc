"""The report in words."""

from __future__ import annotations

import numpy as np

from keras_gradcam.training.history import Recorder
from keras_gradcam.training.report import drift_report


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


def test_one_epoch_is_named():
    recorder = Recorder()
    recorder.add(2, np.array([[[1.0, 2.0]]]), {"score": np.ones(1)})
    assert drift_report(recorder.history(), str).startswith("1 epoch logged, epoch 2; 1 probe. Epochs count from 0.\n")


def begun_with(first):
    """Two epochs after a start with these maps."""
    recorder = Recorder()
    for epoch, maps in ((None, first), (0, np.ones((2, 1, 2)) * [1, 2]), (1, np.ones((2, 1, 2)) * [1, 2])):
        recorder.add(epoch, np.asarray(maps, float), {"score": np.ones(2)})
    return recorder.history()


def test_an_empty_first_map_is_told_of():
    text = drift_report(begun_with(np.zeros((2, 1, 2))), str)
    assert "| similarity first | - | - | - | 2 |" in text
    assert "The first map (start) of 2 of 2 probes is zero everywhere: they have no similarity to it." in text
    text = drift_report(begun_with([[[0, 0]], [[1, 2]]]), str)
    assert "| similarity first | - | 1 | 1 | 1 |" in text
    assert "The first map (start) of 1 of 2 probes is zero everywhere" in text
    assert "is the same everywhere or not finite" in drift_report(begun_with([[[3, 3]], [[1, 2]]]), str)
    assert "The first map" not in drift_report(begun_with([[[2, 1]], [[1, 2]]]), str)


def test_without_a_start_the_first_epoch_is_the_one_that_is_empty():
    text = drift_report(recorded([[[[0.0, 0.0]]], [[[1.0, 2.0]]], [[[1.0, 2.0]]]], [[0]] * 3), str)
    assert "The first map (epoch 0) of 1 of 1 probes is zero everywhere" in text
    assert "| similarity previous | - | - | 1 | 0 |" in text


def test_what_cannot_be_known_has_no_row():
    text = drift_report(recorded([[[[1.0, 2.0]]]], [[0]]), str)
    assert "similarity" not in text
    assert "mass inside" not in text
    recorder = Recorder()
    for epoch in range(2):
        recorder.add(epoch, None, {"score": np.ones(1)})
    assert "focus" not in drift_report(recorder.history(), str)


def test_a_number_of_another_epoch_says_of_which():
    recorder = Recorder()
    for epoch, totals in enumerate([{}, {"mean_ap": 0.25}, {"mean_ap": 0.5, "rank_1": 1.0}, {"rank_1": 0.75}]):
        recorder.add(epoch, None, {"score": np.ones(1)}, totals={**totals, "similarity_gap": 0.125 * epoch})
    text = drift_report(recorder.history(), str)
    assert "| mean ap | - | 0.25 (epoch 1) | 0.5 (epoch 2) | - |" in text
    assert "| rank 1 | - | 1 (epoch 2) | 0.75 | - |" in text
    assert "| similarity gap | - | 0 | 0.375 | - |" in text
