"""The Keras backend that the tests run with (``KERAS_BACKEND``), and what tests say in the same words on each."""

from __future__ import annotations

import importlib.util
import json

import keras
import numpy as np
import pytest

BACKEND = keras.config.backend()
OTHER_BACKENDS = tuple(name for name in ("tensorflow", "jax", "torch") if name != BACKEND)

tensorflow_only = pytest.mark.skipif(BACKEND != "tensorflow", reason="about TensorFlow itself")
#: Of tests that count how often a model is traced: PyTorch runs it, layer by layer, at each call.
compiled_only = pytest.mark.skipif(BACKEND == "torch", reason="PyTorch compiles nothing")
jax_only = pytest.mark.skipif(BACKEND != "jax", reason="about JAX itself")
torch_only = pytest.mark.skipif(BACKEND != "torch", reason="about PyTorch itself")


def is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def tensor(array, dtype=None):
    """A tensor of the backend."""
    return keras.ops.convert_to_tensor(array, dtype)


def numbers(tensor) -> np.ndarray:
    """What a tensor of the backend holds, whether or not it has a gradient."""
    return keras.ops.convert_to_numpy(tensor)


def become_second_process(monkeypatch) -> None:
    """Makes this process the second one of a training on two, as far as the backend can tell."""
    if BACKEND == "tensorflow":
        config = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    elif BACKEND == "torch":
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
    else:
        monkeypatch.setattr("jax.process_index", lambda: 1)
