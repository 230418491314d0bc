"""Pictures of people, embeddings and small networks for rankings."""

from __future__ import annotations

import keras
import numpy as np
from backends import BACKEND
from keras import layers as L  # noqa: N812
from models import images, randomised

from keras_gradcam.reid import Ranking, rank

NO_MATCH = "ignore:.*no right match in the gallery"
SIZE = (16, 8)
PICTURES, IDENTITIES, CAMERAS = images(13, SIZE, seed=1), np.arange(13) % 4, np.arange(13) % 3
ASKED, WANTED, SEEN = images(5, SIZE, seed=2), np.arange(5) % 4, np.array([0, 1, 2, 0, 1])
ROWS, KNOWN = np.eye(4, 3, dtype="float32") + 0.1, [0, 1, 0, 1]


def ranked(query, gallery, model=None, **options) -> Ranking:
    return rank(query, gallery, model, progress=False, **options)


def at(*degrees):
    """Vectors of length one at angles in the plane: the nearer the angles, the higher the cosine."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1).astype("float32")


GALLERY = at(10, 20, 30, 40, 50, 60, 70), [7, 8, 7, -1, 9, 7, 8], [0, 0, 1, 1, 1, 2, 1]
QUERY = at(0, 90), [7, 8], [0, 0]


def people(seed, count, identities=4, cameras=3, dimensions=6, junk=0.1):
    """Embeddings in which identities can be told apart more or less."""
    rng = np.random.default_rng(seed)
    who = rng.integers(0, identities, count)
    vectors = rng.normal(size=(identities, dimensions))[who] + rng.normal(size=(count, dimensions))
    known = np.where(rng.random(count) < junk, -1, who)
    return vectors.astype("float32"), known, rng.integers(0, cameras, count)


def net(head=None, seed: int = 0):
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(6, 5, strides=4, padding="same", activation="relu", name="conv")(inputs)
    x = L.GlobalAveragePooling2D()(x)
    return randomised(keras.Model(inputs, head(x) if head else L.Dense(5, name="dense")(x)), seed)


def rectified(x):
    return L.Dense(5, activation="relu")(x)


class Samples:
    """Samples that can be read again and again, with what these tests use of a ``tf.data.Dataset``."""

    def __init__(self, read):
        self.read = read

    def __iter__(self):
        return iter(self.read())

    def batch(self, size):
        def batches():
            samples = list(self.read())
            for start in range(0, len(samples), size):
                yield keras.tree.map_structure(lambda *rows: np.stack(rows), *samples[start : start + size])

        return Samples(batches)

    def shuffle(self, _, seed, reshuffle_each_iteration):
        rng = np.random.default_rng(seed)
        fixed = rng.permutation(len(list(self.read())))

        def samples():
            order = rng.permutation(len(fixed)) if reshuffle_each_iteration else fixed
            found = list(self.read())
            return [found[index] for index in order]

        return Samples(samples)

    def take(self, count):
        return Samples(lambda: list(self.read())[:count])

    def prefetch(self, _):
        return self

    def repeat(self):
        def forever():
            while True:
                yield from self.read()

        endless = Samples(forever)
        endless.cardinality = lambda: -1  # as TensorFlow says it
        return endless


def dataset(*columns):
    """A ``tf.data.Dataset`` of slices on TensorFlow, the like of it elsewhere."""
    columns = columns if len(columns) > 1 else columns[0]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(columns)
    arrays = keras.tree.map_structure_up_to(_without_lists(columns), np.asarray, columns)
    count = len(keras.tree.flatten(arrays)[0])
    return Samples(lambda: (_row(arrays, row) for row in range(count)))


def _row(arrays, row):
    return keras.tree.map_structure(lambda array: array[row], arrays)


def _without_lists(columns):
    """The structure of columns, in which a list is a column."""
    if isinstance(columns, dict):
        return {name: _without_lists(column) for name, column in columns.items()}
    return tuple(map(_without_lists, columns)) if isinstance(columns, tuple) else 0


def shuffled(pictures, identities):
    return dataset(pictures, identities).shuffle(100, seed=1, reshuffle_each_iteration=True)


def shuffled_with(*columns, again=True):
    return dataset(*columns).shuffle(100, seed=1, reshuffle_each_iteration=again).batch(4)
