"""Explanations: overlays, captions, in a notebook, in a figure, in a folder."""

from __future__ import annotations

import base64
import io
import json
import re

import keras
import numpy as np
import pytest
from PIL import Image

from keras_gradcam import Explainer
from keras_gradcam.attribution.explanation import frames
from keras_gradcam.drawing.panels import panel
from keras_gradcam.drawing.pixels import Style, displayed, overlay


@pytest.fixture(scope="module")
def explanation():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((12, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    images = np.random.default_rng(0).random((10, 12, 8, 3), dtype=np.float32)
    return Explainer(model, target=1, methods=["gradcam", "saliency", "guided_gradcam"])(images)


def test_overlays_are_the_map_on_each_picture(explanation):
    drawn = explanation.overlay(Style(colormap="viridis"))
    shown = displayed(explanation.images)
    for number in range(10):
        expected = overlay(shown[number], explanation.gradcam[number], style=Style(colormap="viridis"))
        np.testing.assert_array_equal(drawn[number], expected)


def test_captions_say_what_was_predicted(explanation):
    frame = frames(explanation, {0: "cat", 1: "dog", 2: "cow"})[3]
    best = explanation.probabilities[3].argmax()
    assert frame.caption[0] == f"predicted: {['cat', 'dog', 'cow'][best]} {explanation.probabilities[3, best]:.2f}"
    assert frame.caption[1] == "explained: dog"
    assert list(frame.gradients) == ["saliency", "guided Grad-CAM"]
    np.testing.assert_allclose(explanation.probabilities, explanation.predictions, rtol=1e-6)


def test_a_figure_holds_a_panel_per_sample(explanation):
    two = explanation[:2]
    figure = two.figure()
    assert len(figure.axes) == 2
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), panel(frames(two)[1]))
    figure.savefig(io.BytesIO())


def test_a_notebook_shows_the_first_samples_and_says_how_many_are_left(explanation):
    shown = explanation._repr_html_()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', shown)
    assert len(pictures) == 8
    with Image.open(io.BytesIO(base64.b64decode(pictures[2]))) as image:
        np.testing.assert_array_equal(np.asarray(image), panel(frames(explanation)[2]))
    assert "2 more not shown" in shown
    assert "<script" not in shown


def test_a_saved_explanation_has_pictures_arrays_and_a_manifest(explanation, tmp_path):
    folder = explanation[:3].save(tmp_path / "new" / "folder", {1: "dog"})
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"] == ["explanation.npz", "sample_000.png", "sample_001.png", "sample_002.png"]
    assert manifest["classes"] == [1, 1, 1]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*manifest["files"], "manifest.json"])
    with np.load(folder / "explanation.npz") as arrays:
        for name in explanation.maps:
            np.testing.assert_array_equal(arrays[name], explanation.maps[name][:3])
        np.testing.assert_array_equal(arrays["probabilities"], explanation.probabilities[:3])


@pytest.mark.parametrize("axes", [1, 3])
def test_series_and_volumes_are_not_drawn(axes):
    convolution = {1: keras.layers.Conv1D, 3: keras.layers.Conv3D}[axes]
    layers = [convolution(2, 2, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4,) * axes + (1,)), *layers])
    result = Explainer(model, target=0)(np.ones((1, *(4,) * axes, 1)))
    assert result._repr_html_() is None
    with pytest.raises(ValueError, match="must be one of pictures"):
        result.figure()


def test_gradients_alone_are_laid_on_nothing(explanation):
    only = type(explanation)(
        explanation.scores, None, maps={"saliency": explanation.maps["saliency"]}, images=explanation.images
    )
    with pytest.raises(ValueError, match="`methods` must name one"):
        only.overlay()


def test_names_are_a_list_or_a_dict(explanation):
    by_list, by_dict = (
        frames(explanation, names)[3] for names in (["cat", "dog", "cow"], {2: "cow", 1: "dog", 0: "cat"})
    )
    assert by_list.caption == by_dict.caption
    assert any("cat" in line or "dog" in line or "cow" in line for line in by_list.caption)
    explanation.figure(class_names=["cat", "dog", "cow"])
    with pytest.raises(ValueError, match="`class_names` must be a list of names or a dict"):
        explanation.figure(class_names="cat")
