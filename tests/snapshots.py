"""Compares a model before and after: nothing of it may have changed."""

from __future__ import annotations

import contextlib

import keras
import numpy as np

ON_TENSORFLOW = keras.config.backend() == "tensorflow"
if ON_TENSORFLOW:
    import tensorflow as tf

VARIABLES = (keras.Variable, tf.Variable) if ON_TENSORFLOW else (keras.Variable,)

# ---------------------------------------------------------------------------------------------------- what is looked at


def frozen(value, keep, depth=0):
    """A value that compares equal only to the same object with the same contents.

    Objects met on the way go into ``keep``, so that their ids are not given to others.
    """
    keep.append(value)
    if isinstance(value, (str, bytes, int, float, bool, type(None))):
        return value
    if isinstance(value, VARIABLES):
        return "variable", id(value), np.array(keras.ops.convert_to_numpy(value)).tobytes()
    if isinstance(value, np.ndarray):
        return "array", id(value), value.tobytes()
    if isinstance(value, dict) and depth < 6:
        items = [(frozen(key, keep, depth + 1), frozen(item, keep, depth + 1)) for key, item in list(value.items())]
        return "dict", id(value), items
    if isinstance(value, (list, tuple, set, frozenset)) and depth < 6:
        return type(value).__name__, id(value), [frozen(item, keep, depth + 1) for item in list(value)]
    return type(value).__name__, id(value)


class Snapshot:
    """Everything a user could see of a model and of Keras."""

    def __init__(self, model):
        self._keep = []
        self.state = {
            f"{position} {layer.name}.{name}": frozen(value, self._keep)
            for position, layer in enumerate(model._flatten_layers())
            for name, value in vars(layer).items()
        }
        self.state["layers"] = [id(layer) for layer in model._flatten_layers()]
        self.state["variables"] = [
            np.array(keras.ops.convert_to_numpy(variable)).tobytes() for variable in model.variables
        ]
        self.state["trainable"] = [layer.trainable for layer in model._flatten_layers()]
        self.state["eager functions"] = ON_TENSORFLOW and tf.config.functions_run_eagerly()
        self.state["numpy"] = [np.array(part).tobytes() for part in np.random.get_state()[1:]]
        self.state["dtype policy"] = keras.config.dtype_policy().name
        self.state["stateless"] = keras.src.backend.in_stateless_scope()
        self.state["call context"] = keras.src.backend.common.global_state.get_global_attribute("current_call_ctx")

    def differences(self, other) -> list[str]:
        names = {**self.state, **other.state}
        return [name for name in names if self.state.get(name, "absent") != other.state.get(name, "absent")]


@contextlib.contextmanager
def unchanged(model):
    before = Snapshot(model)
    yield
    assert not before.differences(Snapshot(model))
    assert all("call" not in vars(layer) for layer in model._flatten_layers())
