"""Explanations: their samples, overlays, captions, in a notebook, in a figure, in a folder."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re

import keras
import numpy as np
import pytest
from models import CLASSES, convnet, images
from PIL import Image

from keras_gradcam import Class, Explainer, Explanation, explain
from keras_gradcam.attribution.explanation import Explained, build_frame, frames
from keras_gradcam.drawing.overlays import overlay
from keras_gradcam.drawing.panels import panel
from keras_gradcam.drawing.pixels import Style, displayed


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
    for names in (["cat", "dog"], ["cat", "dog", "cow", "hen"]):  # a dict may name some of them
        with pytest.raises(ValueError, match=r"name the 3 classes.*a dict \{number: name\}"):
            explanation.figure(class_names=names)
    with pytest.raises(ValueError, match="`class_names` must be a list of names or a dict"):
        explanation.figure(class_names="cat")


def five_samples():
    """Five samples of two outputs, every number its own."""
    count = iter(range(100_000))

    def array(*shape):
        return np.array([next(count) for _ in range(int(np.prod(shape)))], "float32").reshape(shape)

    return Explanation(
        scores=array(5),
        predictions={"a": array(5, 2), "b": [array(5, 3), array(5)]},
        classes=np.arange(5),
        explained=Explained("conv"),
        maps={"gradcam": array(5, 2, 3), "guided_backprop": array(5, 4, 6, 3)},
        images=array(5, 4, 6, 3),
    )


MASK = np.array([True, False, True, True, False])


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (0, [0]),
        (3, [3]),
        (-1, [4]),
        (-5, [0]),
        (np.int64(2), [2]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, -2), [4, 2, 0]),
        (slice(3, 3), []),
        (MASK, [0, 2, 3]),
        ([4, 0, 0], [4, 0, 0]),
        (np.array([1, -1]), [1, 4]),
    ],
    ids=str,
)
def test_indexing_takes_the_same_samples_everywhere(index, rows):
    whole, part = five_samples(), five_samples()[index]
    assert len(part) == len(rows)
    for name in ("scores", "classes", "gradcam", "heatmap", "guided_backprop"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows])
    np.testing.assert_array_equal(part.predictions["a"], whole.predictions["a"][rows])
    np.testing.assert_array_equal(part.predictions["b"][0], whole.predictions["b"][0][rows])
    np.testing.assert_array_equal(part.predictions["b"][1], whole.predictions["b"][1][rows])
    assert part.layer == "conv"
    assert part.guided_gradcam is None


@pytest.mark.parametrize("index", [5, -6, np.int32(9)])
def test_index_out_of_range_is_an_index_error(index):
    with pytest.raises(IndexError):
        five_samples()[index]


def test_mask_of_another_length_is_an_index_error():
    with pytest.raises(IndexError):
        five_samples()[MASK[:3]]


def test_iteration_gives_every_sample_in_order():
    parts = list(five_samples())
    assert [part.scores.tolist() for part in parts] == [[score] for score in five_samples().scores.tolist()]
    assert all(len(part) == 1 for part in parts)
    assert parts[3].gradcam.shape == (1, 2, 3)


def test_explanation_is_frozen():
    result = five_samples()
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.scores = None
    with pytest.raises(dataclasses.FrozenInstanceError):
        del result.scores


def test_explanation_says_what_it_holds():
    maps = "layer='conv', gradcam (5, 2, 3), guided_backprop (5, 4, 6, 3)"
    whole = five_samples()
    assert repr(whole) == f"Explanation(5 samples, classes 0, 1, 2, 3, 4, {maps})"
    assert repr(whole[3]) == f"Explanation(1 sample, class 3, {maps})".replace("(5,", "(1,")
    assert repr(dataclasses.replace(whole, classes=np.full(5, 2))) == f"Explanation(5 samples, class 2, {maps})"
    assert repr(dataclasses.replace(whole, classes=None)) == f"Explanation(5 samples, {maps})"
    many = Explanation(np.zeros(20), None, np.arange(20) % 9)
    assert repr(many) == "Explanation(20 samples, 9 classes, layer=None)"


def test_explanation_says_what_was_explained():
    model = convnet(activation="relu")
    against = explain(model, images(), target=Class(3) - Class(1), methods="gradcam")
    assert against.target == "Class(3) - Class(1)"
    assert repr(against[:2]) == "Explanation(2 samples, target=Class(3) - Class(1), layer='conv2', gradcam (2, 6, 5))"
    assert "class 2, layer" in repr(explain(model, images(), target=2, methods="gradcam"))
    one_each = explain(model, images(3), target=Class([3, 0, 1]) - Class([0, 1, 2]), methods="gradcam")
    assert one_each[0].target == "Class([3, 0, 1]) - Class([0, 1, 2])"
    long = explain(model, images(40), target=-Class([1] * 40), methods="gradcam")
    assert len(repr(long)) < 150


def test_weights_that_are_not_finite_are_warned_about():
    model = convnet(activation="relu")
    model.get_layer("dense").kernel.assign(np.full((5, CLASSES), np.nan))
    with pytest.warns(RuntimeWarning) as caught:
        explain(model, images(), target=1)
    for name, warning in zip(("scores", "gradcam", "guided_backprop"), caught, strict=True):
        assert f"`{name}` is not finite for 3 of 3 samples" in str(warning.message)


def test_a_frame_has_the_first_cam_on_the_picture_and_the_others_beside():
    picture, cam, slope = np.zeros((8, 8, 3), np.uint8), np.array([[1.0, np.inf], [np.nan, 3.0]]), np.ones((8, 8, 3))
    maps = {"saliency": slope[..., 0], "layercam": cam, "guided_backprop": slope, "gradcam": 2 * cam}
    frame = build_frame(maps, picture, caption=["a"], short=["b"], wrong=True)
    assert (list(frame.cams), frame.vmax, frame.caption, frame.short, frame.wrong) == (
        ["LayerCAM", "Grad-CAM"],
        3.0,
        ("a",),
        ("b",),
        True,
    )
    assert frame.gradcam is cam
    assert list(frame.gradients) == ["saliency", "guided backprop"]
    assert build_frame(maps, picture, vmax=7.0).vmax == 7.0
    without = build_frame({"saliency": slope[..., 0]}, picture)
    assert (without.gradcam, without.vmax) == (None, 0.0)
