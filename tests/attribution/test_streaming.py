"""Any data set becomes batches of one length, gone through once; the best of a stream is that of a sorted list."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_gradcam.attribution.inputs import read_batches
from keras_gradcam.filters.top_activations import Best

PICTURES = np.arange(11 * 4 * 3 * 2, dtype="float32").reshape(11, 4, 3, 2)
LABELS = np.arange(11) % 3


def images_of(data, batch_size):
    return (batch.images for batch in read_batches(data, batch_size))


class Sequence(keras.utils.PyDataset):
    """Batches of three, with labels."""

    def __init__(self, endless: bool = False):
        super().__init__()
        self.endless = endless

    def __len__(self):
        return 4

    @property
    def num_batches(self):
        return None if self.endless else 4

    def __getitem__(self, position):
        rows = slice(3 * position, 3 * position + 3)
        return PICTURES[rows], LABELS[rows]


def dataset(*parts):
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])


FORMS = {
    "array": lambda: PICTURES,
    "array and labels": lambda: (PICTURES, LABELS),
    "array, labels and weights": lambda: (PICTURES, LABELS, LABELS),
    "list of pictures": lambda: list(PICTURES),
    "dataset of pictures": lambda: dataset(PICTURES),
    "dataset of pictures and labels": lambda: dataset(PICTURES, LABELS),
    "dataset of batches": lambda: dataset(PICTURES).batch(4),
    "dataset of large batches and labels": lambda: dataset(PICTURES, LABELS).batch(10),
    "PyDataset": Sequence,
    "generator of batches": lambda: (PICTURES[start : start + 5] for start in (0, 5, 10)),
    "generator of batches and labels": lambda: ((PICTURES[at : at + 2], LABELS[at : at + 2]) for at in range(0, 11, 2)),
    "generator of pictures": lambda: iter(PICTURES),
    "iterator of a dataset": lambda: iter(dataset(PICTURES).batch(6)),
}


@pytest.mark.parametrize("batch_size", [1, 4, 11, 20])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_batches(form, batch_size):
    made = list(images_of(FORMS[form](), batch_size))
    assert [len(batch) for batch in made[:-1]] == [batch_size] * (len(made) - 1)
    assert 0 < len(made[-1]) <= batch_size
    np.testing.assert_array_equal(np.concatenate(made), PICTURES)
    assert all(isinstance(batch, np.ndarray) for batch in made)


def test_several_inputs():
    inputs = {"picture": PICTURES, "number": LABELS[:, None]}
    for form in (inputs, dataset(inputs).batch(4), (inputs, LABELS)):
        made = list(images_of(form, 5))
        assert [len(batch["number"]) for batch in made] == [5, 5, 1]
        np.testing.assert_array_equal(np.concatenate([batch["picture"] for batch in made]), PICTURES)
    assert [len(one) for one, _ in images_of([PICTURES, PICTURES], 8)] == [8, 3]


def test_memory_map_is_read_part_by_part(tmp_path):
    np.save(tmp_path / "pictures.npy", PICTURES)
    lengths = []

    class Spy:
        shape, ndim = PICTURES.shape, 4
        data = np.load(tmp_path / "pictures.npy", mmap_mode="r")

        def __len__(self):
            return 11

        def __getitem__(self, rows):
            lengths.append(len(range(11)[rows]))
            return self.data[rows]

    np.testing.assert_array_equal(np.concatenate(list(images_of(Spy(), 4))), PICTURES)
    assert lengths == [4, 4, 3]


def test_nothing_is_read_ahead():
    taken = []

    def given_batches():
        for start in range(0, 11, 2):
            taken.append(start)
            yield PICTURES[start : start + 2]

    stream = images_of(given_batches(), 4)
    assert taken == []
    next(stream)
    assert taken == [0, 2]


WRONG = {
    "endless dataset": (lambda: dataset(PICTURES).batch(2).repeat(), "must come to an end.*Candidates"),
    "endless PyDataset": (lambda: Sequence(endless=True), "must come to an end"),
    "nothing": (lambda: iter([]), "at least one picture.*empty"),
    "empty array": (lambda: PICTURES[:0], "at least one picture"),
    "no pictures": (lambda: 3, "must hold pictures.*Received: int.*Candidates"),
    "nothing at all": (lambda: None, "must hold pictures.*Received: NoneType"),
    "inputs of different length": (lambda: [PICTURES, PICTURES[:3]], "as many for every input"),
    "pictures of different shape": (lambda: iter([PICTURES, PICTURES[:, 1:]]), "must all have one shape.*Candidates"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_data_set_is_refused(name):
    make, message = WRONG[name]
    with pytest.raises(ValueError, match=rf"(?s)`images` .*{message}"):
        list(images_of(make(), 4))


# ------------------------------------------------------------------------------------------------------------ the best


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
