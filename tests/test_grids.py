"""Where the cells of a map lie on the input: sizes, grids of tokens, and upsampling beside loops and TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest
from backends import tensorflow_only
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import assert_close, upsample_by_hand

from keras_gradcam.grids import Placement, cell_edges, spatial_size, token_grid, upsample

# ----------------------------------------------------------------------------------------------------- sizes and tokens


@pytest.mark.parametrize(
    ("input_shape", "output_shape", "size"),
    [
        ((224, 224, 3), (None, 7, 7, 512), (224, 224)),
        ((224, 224, 3), (None, 1, 1, 512), None),
        ((224, 224, 3), (None, 1, 7, 512), (224, 224)),
        ((224, 224, 3), (None, 512), None),
        ((None, None, 3), (None, None, None, 8), (None, None)),
        ((28, 28), (None, 26, 26, 8), (28, 28)),
        ((28, 28), (None, 26, 8), (28,)),
        ((100,), (None, 98, 8), (100,)),
        ((100, 2), (None, 98, 8), (100,)),
        ((6, 7, 8, 2), (None, 3, 4, 4, 5), (6, 7, 8)),
        ((224, 224, 3), (None, 197, 768), (224, 224)),
        ((224, 224, 3), (None, 153, 768), None),
    ],
)
def test_spatial_size(input_shape, output_shape, size):
    assert spatial_size(input_shape, output_shape) == size


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [
        (196, (224, 224), (14, 14)),
        (197, (224, 224), (14, 14)),
        (201, (224, 224), (14, 14)),
        (128, (256, 128), (16, 8)),
        (129, (256, 128), (16, 8)),
        (128, (128, 256), (8, 16)),
        (6, (20, 30), (2, 3)),
        (7, (20, 30), (2, 3)),
        (5, (20, 30), None),
        (1, (20, 20), None),
        (None, (20, 20), None),
        (16, (None, None), None),
        (16, (16,), None),
    ],
)
def test_token_grid(tokens, size, grid):
    assert token_grid((None, tokens, 64), size) == grid


def test_token_grid_needs_tokens():
    assert token_grid((None, 4, 4, 8), (16, 16)) is None
    assert token_grid((None, 16), (16, 16)) is None


# ----------------------------------------------------------------------------------------------------------- upsampling

SIZES = [((3, 5), (12, 10)), ((1, 1), (4, 3)), ((4, 6), (4, 6)), ((7, 2), (5, 9)), ((2, 9), (3, 4)), ((6, 6), (1, 1))]


@pytest.mark.parametrize(("old", "new"), [*SIZES, ((4,), (11,)), ((2, 3, 2), (5, 4, 3))], ids=str)
def test_upsample_equals_explicit_loops(rng, old, new):
    maps = rng.normal(size=(2, *old))
    assert_close(upsample(maps, new), upsample_by_hand(maps, new), 1e-12)


@tensorflow_only
@pytest.mark.parametrize(("old", "new"), SIZES, ids=str)
def test_upsample_equals_tensorflow(rng, old, new):
    import tensorflow as tf

    maps = rng.normal(size=(2, *old)).astype("float32")
    expected = tf.image.resize(maps[..., None], new, method="bilinear", antialias=False)[..., 0]
    assert_close(upsample(maps, new), expected, 1e-6)


def test_upsample_keeps_dtype_and_returns_contiguous_memory(rng):
    for dtype in ("float32", "float64"):
        result = upsample(rng.normal(size=(2, 3, 4)).astype(dtype), (6, 8))
        assert result.dtype == dtype
        assert result.flags.c_contiguous


extents = st.integers(1, 6)
numbers = st.floats(-1e3, 1e3, width=32)


def maps_of(count=1):
    """``count`` maps of one shape, and the size they are resized to."""
    return st.tuples(extents, extents).flatmap(
        lambda old: st.tuples(
            hnp.arrays("float64", (count, *old), elements=numbers), st.tuples(st.integers(1, 15), st.integers(1, 15))
        )
    )


@settings(deadline=None, max_examples=60)
@given(maps_of())
def test_upsample_stays_within_the_range_of_its_values(case):
    maps, size = case
    result = upsample(maps, size)
    slack = 1e-12 * max(1.0, np.abs(maps).max())
    assert result.min() >= maps.min() - slack
    assert result.max() <= maps.max() + slack


@settings(deadline=None, max_examples=60)
@given(maps_of(2), numbers, numbers)
def test_upsample_is_linear(case, a, b):
    (one, two), size = case
    joined = upsample((a * one + b * two)[None], size)
    apart = a * upsample(one[None], size) + b * upsample(two[None], size)
    np.testing.assert_allclose(joined, apart, rtol=1e-9, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(maps_of())
def test_upsample_to_its_own_size_changes_nothing(case):
    maps, _ = case
    np.testing.assert_array_equal(upsample(maps, maps.shape[1:]), maps)


@settings(deadline=None, max_examples=30)
@given(st.tuples(extents, extents), st.tuples(extents, extents), numbers)
def test_upsample_keeps_a_constant(old, new, value):
    np.testing.assert_allclose(upsample(np.full((1, *old), value), new), np.full((1, *new), value), rtol=1e-12)


# ----------------------------------------------------------------------------------------------------------- placement


def test_map_of_the_middle_half_lies_there():
    maps = np.array([[[1.0, 3.0], [5.0, 7.0]]])
    result = upsample(maps, (8, 8), ((0.25, 0.75), (0.0, 1.0)))
    assert_close(result[:, 2:6], upsample_by_hand(maps, (4, 8)), 1e-12)
    assert not result[:, :2].any()
    assert not result[:, 6:].any()


def test_map_that_reaches_beyond_the_input_is_cut():
    maps = np.random.default_rng(0).uniform(1, 2, (2, 5, 6))
    result = upsample(maps, (10, 9), ((-0.5, 1.0), (0.0, 4 / 3)))
    assert_close(result, upsample_by_hand(maps, (15, 12))[:, 5:, :9], 1e-12)


@settings(deadline=None, max_examples=60)
@given(maps_of(), st.floats(-0.5, 0.4), st.floats(0.6, 1.5))
def test_a_span_leaves_constants_inside_and_zeros_outside(case, first, last):
    maps, size = case
    result = upsample(np.ones_like(maps), size, ((first, last), (0.0, 1.0)))
    centers = (np.arange(size[0]) + 0.5) / size[0]
    inside = (centers >= first) & (centers <= last)
    near = np.isclose(centers, first) | np.isclose(centers, last)
    np.testing.assert_allclose(result[:, inside & ~near], 1, rtol=1e-12)
    assert not result[:, ~inside & ~near].any()


@settings(deadline=None, max_examples=60)
@given(maps_of(), st.permutations([0, 1]), st.booleans(), st.booleans())
def test_turned_maps_lie_where_the_cells_lay(case, axes, down, across):
    maps, _ = case
    spans = ((1.0, 0.0) if down else (0.0, 1.0), (1.0, 0.2) if across else (0.2, 1.0))
    placement = Placement(tuple(axes), spans)
    size = [0, 0]
    size[axes[0]], size[axes[1]] = 7, 9
    turned, oriented = placement.turned(maps), placement.oriented()
    assert placement.size((7, 9) if axes[0] == 0 else (9, 7)) == tuple(size)
    np.testing.assert_array_equal(oriented.turned(turned), turned)
    for row, column in np.ndindex(*maps.shape[1:]):
        place = [0.0, 0.0]
        for which, (index, cells) in enumerate(zip((row, column), maps.shape[1:], strict=True)):
            edges = cell_edges(cells, size[axes[which]], spans[which])
            place[axes[which]] = edges[index : index + 2].mean()
        cell = []
        for axis, (cells, extent) in enumerate(zip(turned.shape[1:], size, strict=True)):
            edges = cell_edges(cells, extent, oriented.spans[axis])
            cell.append(int(np.searchsorted(edges, place[axis]) - 1))
        assert turned[(0, *cell)] == maps[0, row, column]


def test_placement_of_an_input_with_its_channels_first():
    placement = Placement((1, 2), ((0.0, 1.0), (0.0, 1.0)))
    inputs = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(placement.channels_last(inputs), inputs.transpose(0, 2, 3, 1))
    assert placement.size((3, 4, 5)) == (4, 5)
    assert placement.over(np.ones((2, 4, 5)), 3).shape == (2, 1, 4, 5)
    assert not placement.is_whole
    assert Placement.whole(2).is_whole
    assert Placement.whole(2).over(np.ones((2, 4, 5)), 3).shape == (2, 4, 5, 1)
