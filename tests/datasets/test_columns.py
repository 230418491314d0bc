"""Which columns of a data set are taken, and what they are called in the results."""

from __future__ import annotations

import numpy as np
import pytest

from keras_gradcam.datasets.columns import STATUS, as_column, read_columns, select
from keras_gradcam.errors import ArgumentError


def test_columns_of_the_data_set_are_renamed_and_others_left_out():
    columns = read_columns({"image": "jpg", "id": "key", "camera": "cam"})
    batch = {"jpg": [b"1", b"2"], "key": ["a", "b"], "cam": [3, 4], "other": [5, 6]}
    selected = select(batch, columns, ["camera"])
    assert {name: values.tolist() for name, values in selected.items()} == {
        "image": [b"1", b"2"],
        "id": ["a", "b"],
        "camera": [3, 4],
    }


def test_by_default_the_usual_names_are_taken_where_they_are():
    assert set(select({"image": [1], "label": [2], "camera": [3]}, read_columns(None))) == {"image", "label"}


def test_the_status_of_files_goes_along():
    batch = {"image": ["a"], STATUS["bytes"]: [1], STATUS["modified"]: [2], "bytes": ["the user's own"]}
    assert select(batch, read_columns(None))["bytes"].tolist() == [1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": "x", "score": "y"}, "not use a name that results have by themselves. Received: 'score'"),
        ({"gradcam_max": "y"}, "by themselves"),
        ("image", "map names of the results to columns"),
        ({"image": 3}, "map names of the results to columns"),
    ],
)
def test_names_that_cannot_be(columns, message):
    with pytest.raises(ArgumentError, match=message):
        read_columns(columns)


def test_columns_that_are_not_there():
    with pytest.raises(ArgumentError, match=r"name columns of the data set. Received: 'image'. Candidates: 'picture'"):
        select({"picture": [1]}, read_columns(None))
    with pytest.raises(ArgumentError, match="Received: 'box'"):
        select({"image": [1]}, read_columns({"region": "box"}), ["region"])
    with pytest.raises(
        ArgumentError, match=r"one row for each picture in all columns. Received: 2 of 'image', 1 of 'id'"
    ):
        select({"image": [1, 2], "id": ["a"]}, read_columns(None))


def test_bytes_keep_their_last_zeros():
    column = as_column([b"a\0", b"b\0\0"])
    assert column.tolist() == [b"a\0", b"b\0\0"]
    assert as_column(np.array([b"a", b"bc"])).dtype == object


def test_pictures_of_one_shape_are_one_array_and_others_objects():
    assert as_column([np.zeros((2, 3)), np.ones((2, 3))]).shape == (2, 2, 3)
    ragged = as_column([np.zeros((2, 3)), np.ones((4, 3))])
    assert ragged.dtype == object
    assert ragged[1].shape == (4, 3)
