"""Questions in words: which rows they are about, and in which order."""

from __future__ import annotations

import numpy as np
import pytest

from keras_gradcam.datasets.queries import QUERIES, answer, read_query
from keras_gradcam.errors import ArgumentError

NAN = np.nan
VALUES = {
    "label": np.array([0.0, 1, 2, NAN, 0, 1]),
    "predicted": np.array([0.0, 2, 0, 1, 0, NAN]),
    "confidence": np.array([0.9, 0.6, 0.8, 0.7, 0.5, NAN]),
    "mass_inside": np.array([0.5, 0.1, NAN, 0.9, 0.2, NAN]),
    "focus": np.array([0.5, 0.1, 0.3, 0.4, 0.2, NAN]),
    "mass": np.array([0.0, 2, 1, 0, 5, NAN]),
    "score": np.array([-3.0, 2, 1, 4, 5, NAN]),
}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("wrong and confident", [2, 1]),
        ("Wrong-And-Confident", [2, 1]),
        ("unsure", [4, 1, 3, 2, 0]),
        ("lowest mass inside", [1, 4, 0, 3]),
        ("right but outside", [4, 0]),
        ("narrowest focus", [1, 4, 2, 3, 0]),
        ("widest focus", [0, 3, 2, 4, 1]),
        ("weakest map", [0, 3, 2, 1, 4]),
        ("lowest score", [0, 2, 1, 3, 4]),
        ("highest score", [4, 3, 1, 2, 0]),
    ],
)
def test_answers(query, expected):
    assert answer(read_query(query), VALUES).tolist() == expected


def test_every_question_is_answered_above():
    assert len(QUERIES) == 9


def test_a_question_that_nobody_knows():
    with pytest.raises(ArgumentError, match=r"`query` must name a question. Received: 'best'. Candidates: 'wrong and"):
        read_query("best")


def test_a_column_that_is_missing_is_named_with_where_it_comes_from():
    with pytest.raises(ArgumentError, match=r"'mass_inside'.*Candidates: columns={'region'"):
        answer(QUERIES["lowest mass inside"], {})
