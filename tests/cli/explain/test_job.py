"""What is known before the first picture: model, labels, layer, methods, output."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from cli_models import (
    SIZE,
    check_refusal,
    manifest,
    network,
    png,
    run,
    saved,
    taken,
)
from keras import layers as L  # noqa: N812

from keras_gradcam import Explainer


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--method", "gradcam,gradcma"],
            "--method must name known methods, at least one. .*'gradcma'.* Candidates: gradcam, gradcam_plus_plus",
        ),
        (["--colormap", "nope"], "--colormap must be .* Received: 'nope'"),
        (["--labels", "gone.txt"], "No such file.*'gone.txt'"),
        (["--labels", "short.txt"], "3 classes, 0 to 2. .*: 2 names"),
        (["--class", "3"], "Received: 3. Candidates: 0 to 2"),
        (["--layer", "lsat"], "--layer must name a layer .* Received: 'lsat'. Candidates: last"),
        (["--layer", "mean"], "Received: 'mean', whose output"),
        (["--output", "second"], "--output must name one of the model's outputs. Received: second. Cand"),
        (["--size", "32"], "--size must be what the model takes, 16x12"),
        (["--preprocess", "vgg"], "--preprocess must be none.* Candidates: vgg1"),
    ],
)
def test_wrong_options(workplace, capsys, words, message):
    (workplace / "short.txt").write_text("cat\ndog")
    check_refusal(capsys, ["explain", "model.keras", "pictures", *words], message)


def _without_space(path):
    layers = [keras.Input((*SIZE, 3)), L.Flatten(), L.Dense(4, activation="relu"), L.Dense(2)]
    return saved(keras.Sequential(layers), path / "m.keras")


def _no_classes(path):
    return saved(keras.Sequential([keras.Input((*SIZE, 3)), L.Rescaling(1.0), L.Conv2D(2, 3)]), path / "m.keras")


def _embedding(path):
    return Path(
        saved(
            keras.Sequential([keras.Input((*SIZE, 3)), *network().layers[:-1], L.UnitNormalization()]), path / "m.keras"
        )
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_without_space, "no layer's output has the spatial axes"),
        (_no_classes, r"must have classes. Received: an output of shape \(None, 14, 10, 2\)"),
        (_embedding, "Received: an output that is L2-normalised: an embedding, whose units are no classes"),
    ],
)
def test_models_without_maps_or_classes(workplace, capsys, make, message):
    path = make(workplace)
    check_refusal(capsys, ["explain", path, "pictures", "--method", "gradcam"], message)


def test_one_of_several_outputs(tmp_path, capsys):
    trunk = network()
    second = keras.layers.Dense(4, activation="softmax", name="second")(trunk.layers[-2].output)
    model = keras.Model(trunk.inputs, [trunk.outputs[0], second])
    path, given = saved(model, tmp_path / "m.keras"), png(tmp_path / "a.png")
    assert run("explain", path, given, "--out", tmp_path / "out") == 2
    assert "--output second" in capsys.readouterr().err
    words = "--output", "second", "--class", "top4", "--format", "npz", "--method", "gradcam"
    assert run("explain", path, given, "--out", tmp_path / "out", *words) == 0
    with np.load(tmp_path / "out" / "a.npz") as found:
        expected = Explainer(keras.Model(trunk.inputs, second), methods="gradcam")(taken(given))
        assert found["classes"][0] == expected.classes[0]
        np.testing.assert_allclose(found["gradcam"][:1], expected.gradcam, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reachable", [True, False])
def test_imagenet_names_come_with_imagenet_weights(tmp_path, monkeypatch, capsys, reachable):
    def decoded(predictions, top):
        if not reachable:
            raise Exception("URL fetch failure")
        return [[("n0", f"name {number}", 1.0)] for number in range(1000)]

    monkeypatch.setattr(keras.applications, "VGG16", lambda weights: network(size=(24, 24), classes=1000))
    monkeypatch.setattr(keras.applications.imagenet_utils, "decode_predictions", decoded)
    words = "--method", "gradcam", "--out", tmp_path / "out"
    assert run("explain", "app:VGG16", png(tmp_path / "a.png"), *words) == 0
    (entry,) = manifest(tmp_path / "out")["pictures"]
    assert entry["predicted"]["name"] == (f"name {entry['predicted']['class']}" if reachable else None)
    assert ("could not be downloaded" in capsys.readouterr().err) != reachable
