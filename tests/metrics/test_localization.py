"""Boxes and overlaps against hand-drawn maps, slow oracles, and properties that must hold for all maps."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from models import convnet_in_sequence, images

from keras_gradcam import Explainer
from keras_gradcam.metrics.localization import iou, localize
from keras_gradcam.metrics.regions import region_mask

maps = arrays(np.float64, (5, 6), elements=st.integers(0, 4).map(float))
boxes = st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(1, 6), st.integers(1, 5)).map(
    lambda b: (b[0], b[1], min(b[0] + b[2], 6), min(b[1] + b[3], 5))
)


def drawn(*rows):
    """A map from rows of digits, a dot for zero."""
    return np.array([[float(cell.replace(".", "0")) for cell in row] for row in rows])


def flood(above):
    """The largest set of cells that touch by a side or a corner, found by spreading from each cell in reading order."""
    todo = {tuple(cell) for cell in np.argwhere(above)}
    largest = set()
    for start in sorted(todo):
        part, edge = set(), [start]
        while edge:
            y, x = edge.pop()
            if (y, x) in todo:
                todo.discard((y, x))
                part.add((y, x))
                edge += [(y + dy, x + dx) for dy, dx in itertools.product((-1, 0, 1), repeat=2)]
        if len(part) > len(largest):
            largest = part
    return largest


# --------------------------------------------------------------------------------------------------------------- boxes


@pytest.mark.parametrize(
    ("rows", "box", "mask"),
    [
        (["9....", "....5", "...55"], (3, 1, 5, 3), [".....", "....1", "...11"]),
        # Corners touch: one part of three, larger than the two side by side.
        (["1...1", ".1..1", "..1.."], (0, 0, 3, 3), ["1....", ".1...", "..1.."]),
        (["9..22", ".9...", "....."], (0, 0, 2, 2), ["1....", ".1...", "....."]),
        # Two parts of two: the first in reading order.
        (["..33.", ".....", "33..."], (2, 0, 4, 1), ["..11.", ".....", "....."]),
        (["..5.."], (2, 0, 3, 1), ["..1.."]),
    ],
    ids=["corner", "diagonal", "diagonal wins", "tie", "one pixel"],
)
def test_hand_drawn(rows, box, mask):
    found = localize(drawn(*rows)[None])
    assert found.boxes.tolist() == [list(map(float, box))]
    assert found.masks[0].tolist() == (drawn(*mask) > 0).tolist()
    assert found.has_box.tolist() == [True]


def test_only_what_is_above_the_threshold_counts():
    row = np.array([[[100.0, 15.0, 0.0, 15.1, 15.1]]])
    assert localize(row).boxes.tolist() == [[3, 0, 5, 1]]  # 15 is not above 15 % of 100
    assert localize(row, threshold=0.5).boxes.tolist() == [[0, 0, 1, 1]]
    assert localize(row, threshold=0).boxes.tolist() == [[0, 0, 2, 1]]


@pytest.mark.parametrize(
    "bad",
    [np.zeros((2, 3)), np.ones((2, 3)), np.array([[1, np.nan]]), np.array([[1, np.inf]]), -drawn("12", "34")],
    ids=["zero", "constant", "nan", "inf", "negative"],
)
def test_a_map_that_says_nothing_has_no_box(bad):
    found = localize(bad[None])
    assert np.isnan(found.boxes).all()
    assert not found.masks.any()
    assert found.has_box.tolist() == [False]
    assert repr(found) == "Localization(0 of 1 samples have a box)"


@given(maps, st.sampled_from([0, 0.15, 0.5]))
def test_box_and_mask_equal_the_flooded_ones(one, threshold):
    found = localize(one[None], threshold)
    if np.ptp(one) == 0:
        assert not found.has_box[0]
        return
    cells = flood(one > threshold * one.max())
    assert {tuple(cell) for cell in np.argwhere(found.masks[0])} == cells
    y, x = zip(*cells, strict=True)
    assert found.boxes[0].tolist() == [min(x), min(y), max(x) + 1, max(y) + 1]


@given(st.lists(maps, min_size=2, max_size=4), st.sampled_from([1e-30, 0.5, 1e30]))
def test_a_batch_equals_its_samples_at_any_strength(several, factor):
    together = localize(np.stack(several))
    for number, one in enumerate(several):
        alone = localize(one[None] * factor)
        np.testing.assert_array_equal(alone.boxes[0], together.boxes[number])
        np.testing.assert_array_equal(alone.masks[0], together.masks[number])


def test_an_explanation_gives_its_heatmap():
    explanation = Explainer(convnet_in_sequence(), methods="gradcam")(images())
    found, expected = localize(explanation), localize(explanation.heatmap)
    assert found.masks.shape == (3, 12, 10)
    assert found.has_box.any()
    np.testing.assert_array_equal(found.boxes, expected.boxes)


@pytest.mark.parametrize(
    ("given_maps", "threshold", "message"),
    [
        (np.zeros((3, 3)), 0.15, r"`maps` must be .*Received: .*\(3, 3\).*maps\[None\]"),
        (np.zeros((0, 3, 3)), 0.15, r"`maps` must"),
        (np.zeros((1, 3, 3), complex), 0.15, r"`maps` must"),
        (np.zeros((1, 3, 3)), 1, r"`threshold` must .*Received: 1"),
        (np.zeros((1, 3, 3)), -0.1, r"`threshold` must"),
        (np.zeros((1, 3, 3)), math.nan, r"`threshold` must"),
    ],
)
def test_localize_refuses(given_maps, threshold, message):
    with pytest.raises(ValueError, match=message):
        localize(given_maps, threshold)


# ------------------------------------------------------------------------------------------------------------- overlap


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0, 0, 4, 2), (2, 0, 6, 2), 4 / 12),
        ((0, 0, 4, 4), (1, 1, 3, 3), 4 / 16),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0),  # they touch: the ends are exclusive
        ((0, 0, 2, 2), (5, 5, 6, 6), 0),  # apart along both axes: no product of two negative sides
        ((0.5, 0, 1.5, 1), (0, 0, 1, 1), 0.5 / 1.5),
        ((1, 2, 3, 4), (1, 2, 3, 4), 1),
        ((np.nan,) * 4, (1, 2, 3, 4), np.nan),
    ],
)
def test_iou_of_boxes_by_hand(one, other, expected):
    np.testing.assert_allclose(iou(one, other), expected)
    np.testing.assert_allclose(iou(other, one), expected)


def test_iou_of_masks_by_hand():
    one = np.array([[[1, 1, 0]], [[1, 1, 0]], [[0, 0, 0]], [[0, 0, 0]]], bool)
    other = np.array([[[0, 1, 1]], [[0, 0, 1]], [[0, 0, 1]], [[0, 0, 0]]], bool)
    np.testing.assert_allclose(iou(one, other), [1 / 3, 0, np.nan, np.nan])


@given(boxes, boxes)
def test_boxes_and_their_masks_overlap_alike(one, other):
    masks = [region_mask(box, (5, 6)) > 0 for box in (one, other)]
    assert iou(one, other) == pytest.approx(iou(*masks), abs=1e-12)


def test_iou_is_element_wise_with_one_for_all():
    several = np.array([[0, 0, 2, 2], [0, 0, 1, 2], [np.nan] * 4])
    np.testing.assert_allclose(iou(several, (0, 0, 2, 2)), [1, 0.5, np.nan])
    np.testing.assert_allclose(iou(several[:, None], several[None, :2]), [[1, 0.5], [0.5, 1], [np.nan, np.nan]])
    found = localize(np.stack([drawn("99..", "99.."), drawn("....", "....")]))
    truth = np.array([(0, 0, 2, 2), (0, 0, 1, 1)])
    np.testing.assert_allclose(iou(found.boxes, truth), [1, np.nan])
    np.testing.assert_allclose(iou(found.masks, np.ones((2, 4), bool)), [0.5, np.nan])


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ((0, 0, 0, 1), (0, 0, 1, 1), r"`a` must be boxes .*x0 < x1.*\[0.0, 0.0, 0.0, 1.0\]"),
        (np.array([[0, 0, 1, 1], [3, 0, 2, 1]]), (0, 0, 1, 1), r"`a` must .*\[3.0, 0.0, 2.0, 1.0\]"),
        ((0, 0, 1, 1), np.ones((4, 4), bool), r"both be boxes or both be masks.*mask > 0"),
        (np.ones((4, 4), bool), np.ones((5, 4), bool), r"fit `a`, one for one"),
        (np.ones((2, 4, 4), bool), np.ones((3, 4, 4), bool), r"fit `a`, one for one"),
        ((0, 0, 1), (0, 0, 1), r"`a` must be boxes \(\.\.\., 4\)"),
    ],
)
def test_iou_refuses(one, other, message):
    with pytest.raises(ValueError, match=message):
        iou(one, other)
