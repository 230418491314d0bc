"""Which means go into Keras' logs and its progress line, and which into its History alone."""

import contextlib
import io
import re

import keras
import numpy as np
import pytest
from trainings import small_model

from keras_gradcam import ArgumentError, GuidedGradCAMCallback, Probe
from keras_gradcam.training.keras_logs import check_logs, chosen_means

RNG = np.random.default_rng(0)
DATA = RNG.random((8, 16, 12, 3), dtype="float32"), np.arange(8) % 3
MEANS = {"score": 1.0, "focus": 0.5, "similarity_previous": 0.9, "mass_inside": 0.2}


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        ("auto", {"gradcam_mass_inside": 0.2}),
        ("all", {f"gradcam_{name}": mean for name, mean in MEANS.items()}),
        ((), {}),
        ({}, {}),
        (["focus", "center_shift"], {"gradcam_focus": 0.5}),
        ({"attention": "mass_inside"}, {"attention": 0.2}),
    ],
)
def test_means_are_chosen(logs, expected):
    assert chosen_means(check_logs(logs), MEANS) == expected


def test_without_regions_similarity_is_the_one_by_default():
    assert chosen_means("auto", {"focus": 0.5, "similarity_previous": 0.9}) == {"gradcam_similarity_previous": 0.9}
    assert chosen_means("auto", {"focus": 0.5}) == {}


@pytest.mark.parametrize("logs", [None, "focus", 3, [1], ["gradcam_focus"], {"a": 1}, {1: "focus"}, {"a": "b"}, True])
def test_other_forms_raise(logs):
    with pytest.raises(ArgumentError, match=r"`logs` must be 'auto'.*Received"):
        check_logs(logs)


def trained(tmp_path, *callbacks, probe=None, **options):
    model = small_model(metrics=["accuracy"])
    callback = GuidedGradCAMCallback(probe or Probe(DATA, limit=2), tmp_path, methods="gradcam", **options)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        history = model.fit(*DATA, epochs=3, verbose=1, callbacks=[callback, *callbacks]).history
    return history, callback, printed.getvalue()


def test_all_means_reach_the_history_and_one_the_progress_line(tmp_path):
    regions = np.array([(0, 0, 8, 8)] * 2, np.float32)
    history, callback, printed = trained(tmp_path, probe=Probe(DATA, limit=2, regions=regions))
    assert set(re.findall("gradcam_[a-z_]+", printed)) == {"gradcam_mass_inside"}
    for name in ("score", "focus", "mass_inside", "similarity_first"):
        expected = np.nanmean(callback.history.numbers[name], axis=1)
        np.testing.assert_allclose(history[f"gradcam_{name}"], expected, rtol=1e-5)
    lines = [line.replace("\x08", "") for line in re.split("[\r\n]", re.sub("\x1b[^m]*m", "", printed))]
    assert any("gradcam_mass_inside" in line for line in lines)
    assert max(map(len, lines)) <= 120


def test_a_mean_that_is_named_can_be_monitored(tmp_path):
    stop = keras.callbacks.EarlyStopping("attention", mode="max", min_delta=10.0, patience=1)
    history, _, printed = trained(tmp_path, stop, logs={"attention": "focus"})
    assert len(history["attention"]) == 2
    assert history["gradcam_focus"] == history["attention"]
    assert "gradcam_" not in printed


def test_nothing_is_added_where_nothing_is_wanted(tmp_path):
    assert set(trained(tmp_path, logs=())[0]) == {"accuracy", "loss"}
