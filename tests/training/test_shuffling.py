"""Reading a probe does not change what is trained on, or is said to."""

from __future__ import annotations

import contextlib
import random
import warnings

import keras
import numpy as np
import pytest
from backends import tensorflow_only
from retrieval_sets import dataset

from keras_gradcam import GuidedGradCAMCallback, Probe
from keras_gradcam.training.shuffling import random_states_kept

X, Y = np.random.default_rng(0).random((24, 12, 12, 3), "float32"), np.arange(24) % 3


class Shuffled(keras.utils.PyDataset):
    """Draws its batches, and noise for them, from the random state of NumPy and Python."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = np.random.permutation(24)[:8]
        return X[rows] + np.float32(0.1 * random.random()), Y[rows]


def loader():
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)  # Keras seeds PyTorch only where it is its backend
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    return torch.utils.data.DataLoader(data, batch_size=8, shuffle=True)


def trained(make, is_probe, folder):
    keras.utils.set_random_seed(5)
    data = make()
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    callbacks = [GuidedGradCAMCallback(data, folder, methods="gradcam")] if is_probe else []
    model.fit(data, epochs=2, verbose=0, callbacks=callbacks, shuffle=False)
    return np.concatenate([np.ravel(weight) for weight in model.get_weights()])


@pytest.mark.parametrize("make", [Shuffled, loader], ids=["PyDataset", "DataLoader"])
def test_training_on_the_probe_itself_is_bit_identical(make, tmp_path):
    np.testing.assert_array_equal(trained(make, True, tmp_path), trained(make, False, tmp_path))


def data():
    return dataset(X, Y)


def zipped(*data_sets):
    import tensorflow as tf

    return tf.data.Dataset.zip(data_sets)


@tensorflow_only
@pytest.mark.parametrize(
    "shuffled",
    [
        lambda: data().shuffle(24).batch(8),
        lambda: data().shuffle(24, seed=3).batch(8).map(lambda x, y: (x, y)).prefetch(1),
        lambda: zipped(data().shuffle(24, seed=1).map(lambda x, y: x), data().map(lambda x, y: y)),
    ],
    ids=["shuffle", "inside", "zipped"],
)
def test_shuffled_data_sets_are_warned_about(shuffled):
    with pytest.warns(UserWarning, match=r"shuffled anew.*before `\.shuffle"):
        Probe(shuffled(), limit=4).read()


@tensorflow_only
@pytest.mark.parametrize(
    "fixed", [lambda: data().batch(8), lambda: data().shuffle(24, seed=3, reshuffle_each_iteration=False).batch(8)]
)
def test_data_sets_in_a_fixed_order_are_read_as_they_are(fixed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Probe(fixed(), limit=4).read()) == 4


def test_random_states_are_put_back_after_a_failure():
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.rand()
    random.seed(1)
    np.random.seed(1)
    with contextlib.suppress(ZeroDivisionError), random_states_kept():
        random.random()
        np.random.rand()
        raise ZeroDivisionError
    assert (random.random(), np.random.rand()) == expected
