"""Trials get a folder each, a loop over `fit` one timeline, and a timeline that is lost is said to be."""

from __future__ import annotations

import copy
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from trainings import events, fit, small_model

from keras_gradcam import GuidedGradCAMCallback, Probe
from keras_gradcam.training.folders import holds_timeline, own_folder
from keras_gradcam.training.history import History


def callback(data, folder, **options):
    return GuidedGradCAMCallback(Probe(data, limit=2), folder, methods="gradcam", **options)


def steps(folder):
    return [event.step for event in events(folder)["gradcam/overview"]]


def test_a_loop_over_fit_is_one_timeline(data, tmp_path):
    model, looped = small_model(), callback(data, tmp_path / "looped")
    for _ in range(4):
        fit(model, data, looped, epochs=1)
    assert looped.history.epochs.tolist() == [0, 1, 2, 3]
    assert steps(tmp_path / "looped") == [0, 1, 2, 3]
    assert len(events(tmp_path / "looped")["gradcam_start/overview"]) == 1
    fit(model, data, looped, epochs=3)
    assert looped.history.epochs.tolist() == [0, 1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(History.load(tmp_path / "looped").maps, looped.history.maps)


def test_a_training_that_was_interrupted_goes_on_where_it_was(data, tmp_path):
    model, watched = small_model(), callback(data, tmp_path)
    fit(model, data, watched, epochs=3)
    fit(model, data, watched, epochs=3, initial_epoch=1)  # says where, so that what followed is replaced
    assert watched.history.epochs.tolist() == [0, 1, 2]
    fit(model, data, watched, epochs=2)
    assert watched.history.epochs.tolist() == [0, 1, 2, 3, 4]


def test_another_model_replaces_the_timeline_and_that_is_said(data, tmp_path):
    watched = callback(data, tmp_path)
    fit(small_model(), data, watched, epochs=2)
    with pytest.warns(UserWarning, match=r"earlier training in .*gradcam' is replaced.*run\{trial\}"):
        fit(small_model(), data, watched, epochs=1)
    assert watched.history.epochs.tolist() == [0]
    with pytest.warns(UserWarning, match="is replaced"):
        fit(small_model(), data, callback(data, tmp_path), epochs=1)


@pytest.mark.parametrize("copied", [False, True], ids=["one callback", "copies, as tuners make them"])
def test_trials_get_a_folder_each(data, tmp_path, copied):
    original = callback(data, tmp_path / "trial{trial}", save_dir=tmp_path / "out" / "{trial}-pictures")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            fit(small_model(), data, copy.deepcopy(original) if copied else original, epochs=2)
    assert sorted(os.listdir(tmp_path)) == ["out", "trial0", "trial1", "trial2"]
    assert sorted(os.listdir(tmp_path / "out")) == ["0-pictures", "1-pictures", "2-pictures"]
    for number in range(3):
        assert steps(tmp_path / f"trial{number}") == [0, 1]
        assert (tmp_path / "out" / f"{number}-pictures" / "manifest.json").exists()


def test_a_loop_over_fit_stays_in_its_trial(data, tmp_path):
    model, looped = small_model(), callback(data, tmp_path / "{trial}")
    for _ in range(3):
        fit(model, data, looped, epochs=1)
    assert os.listdir(tmp_path) == ["0"]


def test_trials_side_by_side_get_different_numbers(tmp_path):
    template = str(tmp_path / "a" / "trial{trial}" / "logs-{trial}")
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(own_folder, [template] * 24))
    expected = [str(tmp_path / "a" / f"trial{number}" / f"logs-{number}") for number in range(24)]
    assert sorted(folders) == sorted(expected)


def test_home_is_understood(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert own_folder("~/logs") == str(tmp_path / "logs")
    assert own_folder("~/run{trial}") == str(tmp_path / "run0")


def test_remote_folders_are_numbered_too():
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    assert [own_folder("memory://trials/fold{trial}") for _ in range(2)] == [
        "memory://trials/fold0",
        "memory://trials/fold1",
    ]
    files.pipe_file("/trials/fold0/gradcam/events.out.tfevents.1.gradcam", b"")
    assert holds_timeline("memory://trials/fold0/gradcam")
    assert not holds_timeline("memory://trials/fold1/gradcam")
    assert not holds_timeline("memory://nowhere/gradcam")
