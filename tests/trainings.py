"""Small trainings with the callback, and their event files read back."""

from __future__ import annotations

import io
from pathlib import Path

import keras
import numpy as np
from log_entries import tensors
from PIL import Image
from tensorboard.util.tensor_util import make_ndarray

from keras_gradcam.drawing.pixels import encoded
from keras_gradcam.training.writers.tensorboard import QUALITY

N = 24


def small_model(compiled=True, optimizer="sgd", **options):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((16, 12, 3)),
            keras.layers.RandomFlip("horizontal"),
            keras.layers.Conv2D(6, 3, activation="relu", name="first"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.4),
            keras.layers.Conv2D(6, 3, activation="relu", name="last"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    if compiled:
        model.compile(optimizer, "sparse_categorical_crossentropy", **options)
    return model


def fit(model, data, callback, epochs=2, **options):
    callbacks = callback if isinstance(callback, list) else [callback]
    return model.fit(*data, epochs=epochs, batch_size=8, verbose=0, callbacks=callbacks, **options)


def events(log_dir):
    return tensors(Path(log_dir) / "gradcam")


def opened(content):
    """An encoded picture, uint8 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def decoded(event):
    width, height, content = event.tensor_proto.string_val
    picture = opened(content)  # PNG, or the JPEG of what is drawn at every epoch
    assert picture.shape[:2] == (int(height), int(width))
    return picture


def as_logged(picture):
    """A picture as what is drawn at every epoch comes back from an event file: a JPEG."""
    return opened(encoded(picture, QUALITY))


def scalar(event):
    return float(make_ndarray(event.tensor_proto))
