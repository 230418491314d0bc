"""The files of an explained picture: panels, separate maps, raw arrays."""

from __future__ import annotations

import numpy as np
from cli_models import (
    NAMES,
    network,
    png,
    run,
    saved,
    taken,
)
from PIL import Image

from keras_gradcam import Explainer
from keras_gradcam.attribution.methods.names import CAMS, METHODS
from keras_gradcam.drawing.overlays import overlay
from keras_gradcam.drawing.panels import Frame, panel


def explain(folder, out, *words):
    return run("explain", folder / "model.keras", folder / "pictures", "--out", out, "--quiet", *words)


def images(folder):
    return np.concatenate([taken(folder / "pictures" / f"p{number}.png") for number in range(3)])


def test_panels_are_those_of_the_callback(model, folder, tmp_path):
    assert explain(folder, tmp_path, "--labels", folder / "names.txt", "--method", "gradcam,guided_gradcam") == 0
    explanation = Explainer(model, methods=["gradcam", "guided_gradcam"])(images(folder))
    shares = explanation.predictions
    for number in range(3):
        name = NAMES[explanation.classes[number]]
        frame = Frame(
            picture=np.asarray(Image.open(folder / "pictures" / f"p{number}.png")),
            cams={"Grad-CAM": explanation.gradcam[number]},
            gradients={"guided Grad-CAM": explanation.guided_gradcam[number]},
            vmax=float(explanation.gradcam[number].max()),
            caption=(
                f"predicted: {name} {shares[number].max():.2f}",
                f"score {explanation.scores[number]:.3g}",
                f"top {explanation.gradcam[number].max():.3g}",
            ),
        )
        drawn = np.asarray(Image.open(tmp_path / f"p{number}.png"))
        np.testing.assert_array_equal(drawn, panel(frame))


def test_each_of_several_classes_has_a_row(folder, tmp_path):
    assert explain(folder, tmp_path / "one") == 0
    assert explain(folder, tmp_path / "three", "--class", "top3") == 0
    one, three = (np.asarray(Image.open(tmp_path / name / "p1.png")) for name in ("one", "three"))
    assert len(three) >= 3 * len(one)
    rows = len(three) // 3
    # The picture is at the head of each row.
    for row in (1, 2):
        np.testing.assert_array_equal(three[:60, :60], three[row * rows : row * rows + 60, :60])


def test_separate_maps_have_the_size_of_the_picture(model, folder, tmp_path):
    assert explain(folder, tmp_path, "--format", "separate", "--method", "layercam", "--method", "saliency") == 0
    explanation = Explainer(model, methods=["layercam"])(images(folder))
    files = {path.name for path in tmp_path.iterdir()}
    names = {f"p{number}.{method}.png" for number in range(3) for method in ("layercam", "saliency")}
    assert files == {*names, "manifest.json"}
    for number, size in enumerate([(30, 40), (50, 20), (12, 12)]):
        given = np.asarray(Image.open(folder / "pictures" / f"p{number}.png"))
        drawn = np.asarray(Image.open(tmp_path / f"p{number}.layercam.png"))
        assert given.shape[:2] == drawn.shape[:2] == size
        np.testing.assert_array_equal(drawn, overlay(given, explanation.maps["layercam"][number]))
        assert np.asarray(Image.open(tmp_path / f"p{number}.saliency.png")).shape[:2] == size


def test_a_large_picture_is_drawn_at_2048_pixels(folder, tmp_path):
    png(tmp_path / "large.png", 1, (1000, 3000))
    words = "--format", "separate", "--method", "gradcam", "--class", "top2", "--out", tmp_path / "out"
    assert run("explain", folder / "model.keras", tmp_path / "large.png", *words) == 0
    for place in (1, 2):
        with Image.open(tmp_path / "out" / f"large.top{place}.gradcam.png") as drawn:
            assert drawn.size == (2048, 683)


def test_an_empty_map_says_so(tmp_path):
    model = network()
    model.layers[-1].kernel.assign(np.abs(model.layers[-1].kernel))
    given = png(tmp_path / "a.png", size=(200, 200))
    path = saved(model, tmp_path / "m.keras")
    words = "--class", "0", "--counterfactual", "--method", "gradcam", "--format", "separate"
    assert run("explain", path, given, *words, "--out", tmp_path / "out") == 0
    drawn = np.asarray(Image.open(tmp_path / "out" / "a.gradcam.png"))
    np.testing.assert_array_equal(drawn[:170], np.asarray(Image.open(given))[:170])
    assert (drawn[180:] != np.asarray(Image.open(given))[180:]).any()  # the words


def test_all_methods_are_drawn(folder, tmp_path):
    assert explain(folder, tmp_path, "--method", ",".join(METHODS)) == 0
    drawn = np.asarray(Image.open(tmp_path / "p0.png"))
    assert drawn.shape[1] > (1 + len(METHODS)) * 190
    assert len(CAMS) < len(METHODS)
