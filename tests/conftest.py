"""Every test starts from the same seeds and leaves Keras as it found it."""

import keras
import numpy as np
import pytest

ON_TENSORFLOW = keras.config.backend() == "tensorflow"
if ON_TENSORFLOW:
    import tensorflow as tf


@pytest.fixture(autouse=True)
def _clean_keras():
    keras.utils.set_random_seed(0)
    eagerly = ON_TENSORFLOW and tf.config.functions_run_eagerly()
    yield
    if ON_TENSORFLOW:
        tf.config.run_functions_eagerly(eagerly)
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.utils.clear_session(free_memory=False)


@pytest.fixture(autouse=True)
def _no_warning_is_swallowed(request, caplog):
    """Fails a test whose warnings were logged because Python raises warnings: nobody expected them."""
    yield
    if "expects_logged_warnings" not in request.keywords:
        logged = [record for record in caplog.get_records("call") if record.name == "keras_gradcam"]
        assert not [record.getMessage() for record in logged if record.levelname == "WARNING"]


@pytest.fixture
def rng():
    return np.random.default_rng(0)
