"""What is black and white in pictures of more than 8 bits."""

from __future__ import annotations

import numpy as np
import pytest

from keras_gradcam.errors import ArgumentError, PictureError
from keras_gradcam.pictures.depth import read_range, scaled, stretched


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("raw", (0, 255)), ("0,4095", (0, 4095)), ("-1000, 3e3", (-1000, 3000)), ((0, 4095), (0, 4095))],
)
def test_ranges_that_are_understood(text, expected):
    assert read_range(text) == expected


@pytest.mark.parametrize(
    "text", ["", "4095", "1,2,3", "a,b", "5,5", "9,1", "0,inf", "nan,1", "auto", 7, (1, 2, 3), (5, 5), [None, 1]]
)
def test_ranges_that_are_not(text):
    with pytest.raises(ArgumentError, match=r"`value_range` must .*Candidates: 0,4095"):
        read_range(text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, 70000]], np.int32), "from 0 to 70000"),
        (np.array([[-1.0, 0.5]], np.float32), "from -1 to 0.5"),
        (np.array([[0.0, 900.0]], np.float32), "from 0 to 900"),
        (np.array([[np.nan, 1.0]], np.float32), "from nan to nan"),
    ],
)
def test_values_of_unknown_white_are_refused_with_the_option_that_says_it(values, message):
    with pytest.raises(PictureError, match=rf"{message}.*`value_range` LOW,HIGH; `value_range` raw"):
        scaled(values, None)
    if np.isfinite(values).all():
        low, high = float(values.min()), float(values.max())
        result, done = scaled(values, (low, high))
        assert (result.min(), result.max()) == (0, 255)
        assert f"{high:g} to 255" in done


def test_what_is_shown_is_stretched():
    assert stretched(np.array([[3.0, 4.0, 5.0]])).tolist() == [[0, 128, 255]]
    assert stretched(np.full((2, 2), 7.0)).tolist() == [[0, 0], [0, 0]]
