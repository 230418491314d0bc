"""The engine that the tests of the contract are run with: that of the Keras backend in use (``KERAS_BACKEND``)."""

from __future__ import annotations

import keras
import pytest

from keras_gradcam.engine import current_engine

BACKEND = keras.config.backend()

# Tests of one backend's own means.
collect_ignore = [folder for folder in ("tensorflow", "jax", "torch") if folder != BACKEND]


@pytest.fixture(params=[BACKEND])
def engine():
    return current_engine()
