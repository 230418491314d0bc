"""Any data set becomes batches of one length, read once."""

from __future__ import annotations

from collections import UserDict

import keras
import numpy as np
import pytest
from backends import BACKEND, tensor, tensorflow_only
from retrieval_sets import dataset

from keras_gradcam.attribution.data_sets import join_batches, read_batches
from keras_gradcam.errors import as_numpy

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


def on_backend(forms):
    """Those of the forms that the backend has."""
    return {name: form for name, form in forms.items() if BACKEND == "tensorflow" or "dataset" not in name}


class Tensor:
    """A tensor of torch, as far as NumPy sees it."""

    def __init__(self, array):
        self.array, self.ndim = np.asarray(array), np.ndim(array)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Can't convert a tensor that requires grad, or lives on another device.")

    def detach(self):
        return self

    def cpu(self):
        return self.array


class DataLoader:
    """Gives lists of tensors, as torch's own does."""

    __module__ = "torch.utils.data.dataloader"

    def __init__(self, *parts, batch_size=4):
        self.parts, self.batch_size = parts, batch_size
        self.batch_sampler = None if batch_size is None else "a sampler"

    def __iter__(self):
        for at in range(0, 11, self.batch_size or 1):
            rows = at if self.batch_size is None else slice(at, at + self.batch_size)
            yield [Tensor(part[rows]) for part in self.parts]


class Samples:
    """A data set that is indexed, of torch or anyone else."""

    def __init__(self, sample):
        self.sample = sample

    def __len__(self):
        return 11

    def __getitem__(self, index):
        return self.sample(range(11)[index])


class Table(Samples):
    """Knows how many rows and columns it has."""

    shape = (11, 2)


FORMS = on_backend(
    {
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
        "generator of batches and labels": lambda: (
            (PICTURES[at : at + 2], LABELS[at : at + 2]) for at in range(0, 11, 2)
        ),
        "generator of pictures": lambda: iter(PICTURES),
        "iterator of a dataset": lambda: iter(dataset(PICTURES).batch(6)),
        "list of pictures and labels": lambda: (list(PICTURES), LABELS),
        "list of pairs": lambda: list(zip(PICTURES, LABELS, strict=True)),
        "list of batches with labels": lambda: [(PICTURES[:7], LABELS[:7]), (PICTURES[7:], LABELS[7:])],
        "DataLoader": lambda: DataLoader(PICTURES, LABELS),
        "DataLoader of single samples": lambda: DataLoader(PICTURES, LABELS, batch_size=None),
        "DataLoader of pictures": lambda: DataLoader(PICTURES),
        "variable": lambda: keras.Variable(PICTURES),
        "a tensor of the backend": lambda: tensor(PICTURES),
        "tensors": lambda: [Tensor(picture) for picture in PICTURES],
        "samples by index": lambda: Samples(lambda index: (PICTURES[index], LABELS[index])),
    }
)

# Where samples are dicts: keys or functions.
SELECTED = on_backend(
    {
        "dict of arrays": lambda: ({"x": PICTURES, "y": LABELS}, "x", "y"),
        "list of dicts": lambda: ([{"x": x, "y": y} for x, y in zip(PICTURES, LABELS, strict=True)], "x", "y"),
        "dataset of dicts": lambda: (dataset({"x": PICTURES, "y": LABELS}), "x", lambda sample: sample["y"]),
        "dataset of batched dicts": lambda: (dataset({"x": PICTURES, "y": LABELS}).batch(3), "x", "y"),
        "generator of batched dicts": lambda: (({"x": PICTURES[at], "y": LABELS[at]} for at in ROWS), "x", "y"),
        "functions of pairs": lambda: (DataLoader(LABELS, PICTURES), lambda pair: pair[1], lambda pair: pair[0]),
        "samples by index": lambda: (Samples(lambda at: {"x": PICTURES[at], "y": LABELS[at]}), "x", "y"),
        "a table": lambda: (Table(lambda at: UserDict(x=PICTURES[at], y=LABELS[at])), "x", "y"),
    }
)
ROWS = [slice(0, 5), slice(5, 11)]


@pytest.mark.parametrize("batch_size", [1, 4, 11, 20])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_batches(form, batch_size):
    made = list(images_of(FORMS[form](), batch_size))
    assert [len(batch) for batch in made[:-1]] == [batch_size] * (len(made) - 1)
    assert 0 < len(made[-1]) <= batch_size
    np.testing.assert_array_equal(np.concatenate(made), PICTURES)
    assert all(isinstance(batch, np.ndarray) for batch in made)


@pytest.mark.parametrize("form", SELECTED)
def test_parts_of_samples_are_chosen_by_keys_or_functions(form):
    data, image, label = SELECTED[form]()
    whole = join_batches(list(read_batches(data, 4, image=image, label=label)))
    np.testing.assert_array_equal(whole.images, PICTURES)
    np.testing.assert_array_equal(whole.labels, LABELS)
    assert whole.extra is None


@pytest.mark.parametrize(
    "form", [name for name in FORMS if "label" in name or "pair" in name or name in ("PyDataset",)]
)
def test_labels_stay_with_their_pictures(form):
    batches = list(read_batches(FORMS[form](), 4))
    assert [len(batch.labels) for batch in batches] == [4, 4, 3]
    np.testing.assert_array_equal(join_batches(batches).labels, LABELS)


def test_what_comes_third_is_kept_and_without_a_size_batches_stay_as_they_are():
    batches = list(read_batches(dataset(PICTURES, LABELS, LABELS + 5).batch(6)))
    assert [len(batch) for batch in batches] == [6, 5]
    np.testing.assert_array_equal(join_batches(batches).extra, LABELS + 5)
    (whole,) = read_batches((PICTURES, LABELS, LABELS + 5))
    np.testing.assert_array_equal(whole[3:5].extra, LABELS[3:5] + 5)
    assert join_batches([whole, next(read_batches(PICTURES))]).labels is None


GRAY = PICTURES[..., 0]
VECTORS = PICTURES[:, 0, :, 0]
FEWER_AXES = on_backend(
    {
        "gray pictures": (lambda: GRAY, GRAY),
        "dataset of gray batches": (lambda: dataset(GRAY).batch(4), GRAY),
        "gray batches with labels": (lambda: ((GRAY[at], LABELS[at]) for at in ROWS), GRAY),
        "single gray pictures": (lambda: iter(GRAY), GRAY),
        "DataLoader of gray batches": (lambda: DataLoader(GRAY, LABELS), GRAY),
        "embeddings": (lambda: (VECTORS, LABELS), VECTORS),
        "dataset of embeddings": (lambda: dataset(VECTORS, LABELS).batch(4), VECTORS),
        "single embeddings": (lambda: zip(VECTORS, LABELS, strict=True), VECTORS),
        "single embeddings without labels": (lambda: iter(VECTORS), VECTORS),
        "batches of embeddings": (lambda: ((VECTORS[at], LABELS[at]) for at in ROWS), VECTORS),
        "loader of embeddings": (lambda: DataLoader(VECTORS), VECTORS),
    }
)


@pytest.mark.parametrize("form", FEWER_AXES)
def test_gray_pictures_and_embeddings_have_fewer_axes(form):
    make, expected = FEWER_AXES[form]
    np.testing.assert_array_equal(np.concatenate(list(images_of(make(), 4))), expected)


@tensorflow_only
def test_pictures_of_any_size_are_read_one_by_one():
    import tensorflow as tf

    spec = tf.TensorSpec((None, None, 3), tf.float32)
    ragged = tf.data.Dataset.from_generator(lambda: (np.zeros((size, 4, 3)) for size in (2, 2)), output_signature=spec)
    assert [batch.shape for batch in images_of(ragged, 4)] == [(2, 2, 4, 3)]


def test_an_endless_data_set_is_read_where_that_is_allowed():
    for data in (dataset(PICTURES, LABELS).repeat(), Sequence(endless=True)):
        stream = read_batches(data, 3, endless=True)
        np.testing.assert_array_equal(next(stream).images, PICTURES[:3])
        np.testing.assert_array_equal(next(stream).labels, LABELS[3:6])


def test_arrays_of_other_frameworks():
    np.testing.assert_array_equal(as_numpy(Tensor(LABELS)), LABELS)
    np.testing.assert_array_equal(as_numpy(tensor(LABELS)), LABELS)
    assert as_numpy(PICTURES) is PICTURES


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
    "a list of them": (lambda: ([PICTURES[0], PICTURES[0, 1:]], [1, 2]), "must all have one shape.*Candidates"),
    "a path": (lambda: "pictures", "must hold pictures.*Received: str"),
    "single values": (lambda: iter([1, 2]), "must hold pictures.*single values"),
    "other labels": (lambda: (PICTURES, LABELS[:5]), "one label per picture. Received: 5 labels for 11 pictures"),
    "one label": (lambda: (PICTURES, 3), "one label per picture. Received: 0 labels for 11 pictures"),
    "other labels in a batch": (lambda: iter([(PICTURES, LABELS[:9])]), "one label per picture. Received: 9 labels"),
    "other weights": (lambda: (PICTURES, LABELS, LABELS[:2]), "one entry of what comes third per picture"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_data_set_is_refused(name):
    make, message = WRONG[name]
    with pytest.raises(ValueError, match=rf"(?s)`images` .*{message}"):
        list(images_of(make(), 4))


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ({"x": PICTURES}, {"image": "picture"}, "`images` must hold dicts with the key 'picture'. Received: keys 'x'"),
        (PICTURES, {"image": "picture"}, "`images` must hold dicts with the key 'picture'. Received: ndarray"),
        ({"x": PICTURES, "y": LABELS}, {"label": "y"}, "`image` must say what the pictures are, beside `label`"),
    ],
)
def test_keys_that_do_not_fit_are_refused(data, options, message):
    with pytest.raises(ValueError, match=message):
        list(read_batches(data, 4, **options))
