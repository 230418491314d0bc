"""The best of a stream is that of a sorted list."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_gradcam.filters.top_activations import Best


def sorted_list(values, top):
    """The positions of the largest values, the first of equal ones first, by sorting all."""
    good = [(-value, position) for position, value in enumerate(values) if value > -np.inf]
    return [position for _, position in sorted(good)[:top]]


numbers = st.one_of(st.integers(-2, 2).map(float), st.sampled_from([np.nan, np.inf, -np.inf]))


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, numbers), max_size=30), st.integers(1, 5), st.integers(1, 7))
def test_best_is_the_head_of_the_sorted_list(rows, top, batch):
    values = np.array(rows, float).reshape(-1, 2)
    best = Best(2, top)
    for start in range(0, len(values), batch):
        part = values[start : start + batch]
        best.offer(part, lambda row, stream, start=start: (start + row, stream))
    for stream in range(2):
        expected = sorted_list(values[:, stream], top)
        assert best.kept[stream] == [(values[at, stream], (at, stream)) for at in expected]


def test_nothing_is_made_that_is_not_kept():
    made = []
    best = Best(1, 2)
    best.offer(np.array([[5.0], [4.0], [3.0], [6.0]]), lambda row, stream: made.append(row))
    best.offer(np.array([[5.0], [1.0]]), lambda row, stream: made.append(10 + row))
    assert sorted(made) == [0, 3]
