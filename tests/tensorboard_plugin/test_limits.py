"""What event files may hold."""

from __future__ import annotations

import numpy as np
import pytest

from keras_gradcam.tensorboard_plugin.limits import (
    MOST_BYTES_OF_PICTURE,
    MOST_PROBES,
    check_maps,
    check_numbers,
    check_pictures,
    check_scalar,
    check_text,
)

ONE = np.ones((2, 3, 4), np.float16)


def objects(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_what_is_written_is_returned_as_it_is():
    assert check_maps(ONE) is ONE
    assert check_numbers(ONE[0]).shape == (3, 4)
    assert check_scalar(np.float32(0.5)) == 0.5
    assert check_text(np.array(b"a", object)) == check_text(np.array(["a"], object)) == b"a"
    assert check_pictures(objects(b"\0\0", "text")) == [b"\0\0", b"text"]


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (check_maps, ONE[0]),
        (check_maps, ONE.astype(int)),
        (check_maps, np.zeros((1, 0, 5), np.float32)),
        (check_maps, np.zeros((1, 5000, 1), np.float32)),
        (check_maps, np.zeros((MOST_PROBES + 1, 1, 1), np.float32)),
        (check_maps, np.zeros((2, 4096, 4096), np.float16)),
        (check_maps, np.array([b"a"], object)),
        (check_numbers, ONE),
        (check_numbers, np.zeros((1, 5000), np.float32)),
        (check_scalar, ONE),
        (check_scalar, np.array(b"1", object)),
        (check_text, np.array(7)),
        (check_text, np.array([b"a", b"b"], object)),
        (check_text, np.array([], object)),
        (check_pictures, np.array(b"a", object)),
        (check_pictures, np.array([7, 8])),
        (check_pictures, objects(b"a", 7)),
        (check_pictures, objects(b"a" * (MOST_BYTES_OF_PICTURE + 1))),
    ],
    ids=range(18),
)
def test_anything_else_is_refused_in_words(check, value):
    with pytest.raises(ValueError, match=r"expected .* found"):
        check(value)
