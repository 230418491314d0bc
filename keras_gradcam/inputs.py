"""What a model takes: batches of pictures as users give them, checked and brought into one form."""

from __future__ import annotations

from typing import Any

import numpy as np

from .engine.base import Signature, Structure
from .engine.recording import declared_inputs
from .layers import signature_of


def standardized(images: Structure, model: Any) -> Structure:
    """``images`` as NumPy arrays of the dtypes that an engine takes, checked against each other and the model.

    Raises:
        ValueError: If there is nothing to explain, or shapes do not fit.
    """
    import keras

    arrays = keras.tree.map_structure(_standardized_leaf, images)
    flat = keras.tree.flatten(arrays)
    if not flat or any(array.ndim == 0 for array in flat) or len({len(array) for array in flat}) != 1:
        raise ValueError(
            "`images` must be a batch, the same number of samples for every input. "
            f"Received: shapes {[array.shape for array in flat]}."
        )
    if not len(flat[0]):
        raise ValueError(f"`images` must hold at least one sample. Received: shape {flat[0].shape}.")
    expected = [tuple(leaf.shape) for leaf in declared_inputs(model, images)]
    if expected and len(expected) != len(flat):
        raise ValueError(
            f"`images` must hold one array for each of the model's {len(expected)} inputs. "
            f"Received: {len(flat)} arrays. "
            "Candidates: the pictures alone, np.stack(images) for a list of them; where pictures come with labels, a "
            "tuple `(images, labels)`."
        )
    if expected:
        for array, shape in zip(flat, expected, strict=True):
            fits = len(shape) == array.ndim and all(
                want in (None, have) for want, have in zip(shape[1:], array.shape[1:], strict=True)
            )
            if not fits:
                hint = " Candidates: images[None] for a single picture." if array.ndim == len(shape) - 1 else ""
                raise ValueError(
                    f"`images` must have the shape that the model takes, {shape}. Received: {array.shape}.{hint}"
                )
    return arrays


def _standardized_leaf(array: Any) -> np.ndarray:
    import keras

    array = np.asarray(array)
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise ValueError(f"`images` must be real numbers. Received: an array of dtype {array.dtype}.")
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return array.astype(keras.config.floatx(), copy=False)
    return array


def flattened(inputs: Structure) -> tuple[list[np.ndarray], Signature]:
    """The arrays in flat order, and their shapes and dtypes."""
    import keras

    return keras.tree.flatten(inputs), signature_of(inputs)


def floating(array: np.ndarray) -> np.ndarray:
    """The array as floating point."""
    import keras

    return array if array.dtype.kind == "f" else array.astype(keras.config.floatx())
