"""The table of checks against the checks themselves, and a trained network against an untrained one."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from models import CLASSES, SIZE, convnet, convnet_in_sequence, images
from randomized import EXTENT, shapes, trained
from snapshots import unchanged

from keras_gradcam import Class, Explainer
from keras_gradcam.attribution.methods.names import CAMS, INPUT_MAPS, METHODS
from keras_gradcam.metrics.faithfulness import average_drop, deletion, increase_in_confidence, insertion
from keras_gradcam.metrics.randomization import randomization_check
from keras_gradcam.metrics.regions import mass_inside, pointing_game
from keras_gradcam.metrics.trust import Check, TrustReport, trust_report

REGIONS = [(0, 0, 5, 6), (2, 2, 9, 9), (5, 0, 10, 12)]


@pytest.mark.parametrize("method", METHODS)
def test_rows_are_the_checks(method):
    model = convnet_in_sequence()
    explainer = Explainer(model, target=[2, 0, 1], methods=method)
    subject = model if method == "gradcam" else explainer
    found = trust_report(subject, images(), target=[2, 0, 1], regions=REGIONS, method=method, seed=4)
    explanation = explainer(images())
    maps = np.abs(explanation.maps[method])
    coarse = maps.sum(axis=-1) if maps.ndim == 4 else maps
    heatmap = explanation.heatmap if method in CAMS else coarse
    # CAMs have cells of 2 x 2 pixels.
    game = {"tolerance": 1 if method in CAMS else 0.5, "input_size": SIZE}
    check = randomization_check(explainer, images(), method=method, target=[2, 0, 1], depth=3, seed=4)
    expected = {
        "average drop": average_drop(explainer, images(), heatmap),
        "increase in confidence": increase_in_confidence(explainer, images(), heatmap),
        "deletion AUC": deletion(explainer, images(), heatmap, steps=10).auc,
        "insertion AUC": insertion(explainer, images(), heatmap, steps=10).auc,
        "pointing game": pointing_game(coarse, REGIONS, **game),
        "mass inside": mass_inside(coarse, REGIONS, input_size=SIZE),
    }
    names = [*expected, *(f"randomized down to {layer}" for layer in check.layers), "empty maps"]
    assert [row.name for row in found.checks] == names
    for name, numbers in expected.items():
        np.testing.assert_allclose(found[name].value, numbers.mean, atol=1e-5, err_msg=name)
        assert found[name].missing == numbers.missing
        assert not math.isnan(found[name].random)
    for layer, mean, missing in zip(check.layers, check.mean, check.missing, strict=True):
        row = found[f"randomized down to {layer}"]
        np.testing.assert_allclose(row.value, mean, atol=1e-5)
        assert (row.random, row.missing) == (0, missing)
    assert (found.method, found.samples) == (method, 3)
    assert found.layer == explanation.layer
    assert (found.layer is None) == (method in INPUT_MAPS and method != "guided_gradcam")


@pytest.mark.parametrize(("away", "expected"), [(0, 1), (1, 1), (2, 0)])
def test_a_cell_that_touches_the_object_is_a_hit(away, expected):
    explainer = Explainer(convnet_in_sequence(), methods="gradcam")
    maps = explainer(images()).gradcam
    assert maps.shape == (3, 6, 5)  # cells of 2 x 2 pixels
    columns = maps.reshape(3, -1).argmax(axis=1) % 5
    # Stripes from the middle of the strongest cell, its border, or a pixel beyond to the side with more room.
    stripes = [(2 * x + 1 + away, 0, 10, 12) if x < 3 else (0, 0, 2 * x + 1 - away, 12) for x in map(int, columns)]
    assert trust_report(explainer, images(), regions=stripes)["pointing game"].value == expected


def test_what_a_trained_network_looks_at_can_be_trusted():
    pictures, labels, boxes = shapes(48, seed=3)
    found = trust_report(trained(), pictures, target=labels, regions=boxes)
    assert found["deletion AUC"].value < found["deletion AUC"].random - 0.1
    assert found["insertion AUC"].value > found["insertion AUC"].random + 0.05
    assert found["average drop"].value < found["average drop"].random
    assert found["pointing game"].value > 0.7
    assert found["mass inside"].value > 2 * found["mass inside"].random
    assert found["mass inside"].random == pytest.approx(9 * 9 / EXTENT**2, abs=0.01)
    assert found["empty maps"].value == 0


def test_without_regions_nothing_is_said_about_places():
    names = [row.name for row in trust_report(convnet_in_sequence(), images()).checks]
    assert "average drop" in names
    assert not {"pointing game", "mass inside"} & set(names)


def test_empty_maps_are_counted_and_missing_everywhere_else():
    model = convnet_in_sequence()
    model.get_layer("dense").set_weights([np.full((5, CLASSES), -1.0), np.zeros(CLASSES)])
    found = trust_report(model, images(), target=1, regions=REGIONS)
    assert found["empty maps"].value == 1
    for name in ("average drop", "increase in confidence", "deletion AUC", "insertion AUC", "pointing game"):
        row = found[name]
        assert math.isnan(row.value), name
        assert math.isnan(row.random), name
        assert row.missing == 3, name
    assert "| average drop | - | - | 3 | lower is better" in str(found)


def test_the_same_seed_gives_the_same_table_and_another_one_others():
    one, same, other = (str(trust_report(convnet_in_sequence(), images(), seed=seed)) for seed in (1, 1, 2))
    assert one == same != other


def test_an_explainer_brings_its_layer_and_target():
    model = convnet(activation="relu")
    expected = trust_report(model, images(), layer="conv1", target=Class(2))
    found = trust_report(Explainer(model, layer="conv1", target=2), images())
    assert str(found) == str(expected)
    assert found.layer == "conv1"
    assert str(trust_report(model, images(), target=Class(2))) != str(found)


def test_table():
    found = TrustReport("gradcam", "conv", 5, (Check("a|b", 0.256, math.nan, 1, "high"), Check("c", -1, 0, 0, "low")))
    table = (
        "| check | these maps | random maps | missing | how to read it |\n|---|---|---|---|---|\n"
        "| a b | 0.26 | - | 1 | high |\n"
        "| c | -1.00 | 0.00 | 0 | low |\n"
    )
    assert found.table() == table
    assert str(found) == f"gradcam of conv, 5 pictures\n\n{table}"
    assert repr(found) == "TrustReport(gradcam, 5 pictures, 2 checks)"
    with pytest.raises(KeyError, match=r"Received: 'd'. Candidates: 'a\|b', 'c'"):
        found["d"]


def test_every_row_says_which_direction_is_good():
    for row in trust_report(convnet_in_sequence(), images(), regions=REGIONS).checks:
        assert any(word in row.reading for word in ("lower", "higher", "near 0 is good", "0 is best")), row


def test_the_model_is_as_before():
    model = convnet()
    model.compile("adam", "sparse_categorical_crossentropy")
    with unchanged(model):
        trust_report(model, images(), regions=REGIONS)
    with unchanged(model), pytest.raises(ValueError, match="`regions`"):
        trust_report(model, images(), regions=REGIONS[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "lime"}, r"`method` must be one that is known"),
        ({"layer": "missing"}, r"`layer` must"),
        ({"target": CLASSES}, r"`target` must name classes"),
        ({"regions": [(0, 0, 0, 0)] * 3}, r"`regions` must be boxes"),
        ({"seed": -1}, r"`seed` must"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        trust_report(convnet_in_sequence(), images(), **options)


def test_an_explainer_has_its_own_layer_and_methods():
    explainer = Explainer(convnet_in_sequence(), methods="gradcam")
    with pytest.raises(ValueError, match=r"`layer` must be given to the explainer"):
        trust_report(explainer, images(), layer="conv1")
    with pytest.raises(ValueError, match=r"`method` must be one that the explainer computes"):
        trust_report(explainer, images(), method="guided_backprop")


@pytest.mark.parametrize("method", CAMS)
def test_maps_are_compared_with_regions_where_they_lie(method):
    """A model that crops its input, beside the network that it crops for on pictures cropped before."""
    inner = convnet_in_sequence()
    inputs = keras.Input((SIZE[0] + 8, SIZE[1] + 6, 3))
    cropped = keras.Model(inputs, inner(keras.layers.Cropping2D(((5, 3), (2, 4)))(inputs)))
    wide = np.pad(images(), ((0, 0), (5, 3), (2, 4), (0, 0)))
    shifted = [(x0 + 2, y0 + 5, x1 + 2, y1 + 5) for x0, y0, x1, y1 in REGIONS]
    options = {"target": [2, 0, 1], "method": method, "seed": 4}
    found = trust_report(cropped, wide, regions=shifted, **options)
    expected = trust_report(inner, images(), regions=REGIONS, **options)
    for name in ("pointing game", "mass inside"):
        assert found[name].value == pytest.approx(expected[name].value, abs=1e-5)
        assert found[name].random == pytest.approx(expected[name].random, abs=1e-5)
