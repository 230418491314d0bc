"""Where the cells of a map lie on the input: sizes, grids of tokens, and upsampling beside loops and TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import assert_close, upsample_by_hand

from keras_gradcam.grids import spatial_size, token_grid, upsample

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


@pytest.mark.parametrize(("old", "new"), SIZES, ids=str)
def test_upsample_equals_tensorflow(rng, old, new):
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
