"""What a model takes: the specification of its inputs, and pictures that are checked against it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.base import InputSpec, Structure
from ..engine.model import declared_inputs
from ..engine.places import Layout
from ..errors import ArgumentError, as_numpy
from ..grids import Placement


def input_spec_of(images: Structure) -> InputSpec:
    """Returns shapes and dtypes of a batch of inputs."""
    import keras

    flat = keras.tree.flatten(images)
    structure = keras.tree.map_structure(lambda _: 0, images)
    return InputSpec(structure, tuple((tuple(leaf.shape[1:]), str(leaf.dtype)) for leaf in flat))


def model_input_spec(model: Any) -> InputSpec:
    """Returns shapes and dtypes of what ``model`` takes.

    Raises:
        ArgumentError: If the model does not know them.
    """
    import keras

    flat = declared_inputs(model)
    if not flat:
        raise ArgumentError(
            "images",
            "be given for a model that does not know the shape of its input",
            f"images=None and a model of type {type(model).__name__}",
            "any batch the model can be called with",
        )
    # A sequential model may have no `input`; whether a functional one takes a list or a dict only `input` tells.
    return input_spec_of(flat[0] if len(flat) == 1 and isinstance(model, keras.Sequential) else model.input)


def explained_input(input_spec: InputSpec, index: int | None = None) -> int:
    """Returns the index, in flat order, of the explained input: by default the first of the highest rank."""
    ranks = [len(shape) for shape, _ in input_spec.leaves]
    if index is None:
        return ranks.index(max(ranks))
    if index not in range(len(ranks)):
        raise ArgumentError(
            "input_index", "be that of one of the model's inputs", repr(index), f"0 to {len(ranks) - 1}"
        )
    return index


def input_shape(input_spec: InputSpec, index: int | None = None) -> tuple[int, ...]:
    """Returns the shape of the explained input without the batch, ``(H, W, C)`` for pictures."""
    return input_spec.leaves[explained_input(input_spec, index)][0]


def preprocessed(images: Structure, model: Any) -> Structure:
    """Returns images as the model's own ``predict`` hands them to the network.

    That is a difference for models with a ``preprocessor``, such as the tasks of KerasHub: they take pictures of any
    size and range in ``predict`` and ``fit``, though not where they are called.
    """
    import keras

    preprocessor = getattr(model, "preprocessor", None)
    if not callable(preprocessor):
        return images
    return keras.tree.map_structure(keras.ops.convert_to_numpy, preprocessor(images))


def standardized(images: Structure, model: Any) -> Structure:
    """Returns ``images`` as NumPy arrays of the dtypes an engine takes, checked against each other and the model.

    Raises:
        ArgumentError: If there is nothing to explain, or shapes do not fit.
    """
    import keras

    arrays = keras.tree.map_structure(_standardized_leaf, images)
    flat = keras.tree.flatten(arrays)
    if not flat or any(array.ndim == 0 for array in flat) or len({len(array) for array in flat}) != 1:
        raise ArgumentError(
            "images",
            "be a batch, the same number of samples for every input",
            f"shapes {[array.shape for array in flat]}",
        )
    if not len(flat[0]):
        raise ArgumentError("images", "hold at least one sample", f"shape {flat[0].shape}")
    declared = declared_inputs(model, images)
    if isinstance(images, dict) and not declared and declared_inputs(model):
        # What Keras itself would refuse, in words that name neither.
        raise ArgumentError(
            "images",
            "have the model's inputs as keys where they are a dict",
            f"the keys {', '.join(map(repr, images))}",
            [
                *(repr(leaf.name) for leaf in declared_inputs(model)),
                "image='image', label='label' where samples of a data set are dicts, as in Probe(data, image='image')",
            ],
        )
    expected = [tuple(leaf.shape) for leaf in declared]
    if expected and len(expected) != len(flat):
        raise ArgumentError(
            "images",
            f"hold one array for each of the model's {len(expected)} inputs",
            f"{len(flat)} arrays",
            ["the pictures alone, with their labels as `target=labels`"]
            if isinstance(images, tuple)
            else [
                "the pictures alone",
                "np.stack(images) for a list of them; where pictures come with labels, a tuple `(images, labels)`",
            ],
        )
    if expected:
        for array, shape in zip(flat, expected, strict=True):
            fits = len(shape) == array.ndim and all(
                want in (None, have) for want, have in zip(shape[1:], array.shape[1:], strict=True)
            )
            if not fits:
                raise ArgumentError(
                    "images",
                    f"have the shape that the model takes, {shape}",
                    str(array.shape),
                    "images[None] for a single picture" if array.ndim == len(shape) - 1 else (),
                )
    return arrays


def _standardized_leaf(array: Any) -> np.ndarray:
    import keras

    given = type(array).__name__
    try:
        array = as_numpy(array)
    except ValueError as error:  # pictures of several sizes
        raise ArgumentError("images", "be arrays", f"{given} ({error})", "the pictures resized to one shape") from error
    if array.dtype.kind == "O" and array.ndim == 0:
        raise ArgumentError("images", "be an array", given, "explainer(batch) for each batch of a data set")
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise ArgumentError("images", "be real numbers", f"an array of dtype {array.dtype}")
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return array.astype(keras.config.floatx(), copy=False)
    return array


def flattened(inputs: Structure) -> tuple[list[np.ndarray], InputSpec]:
    """Returns the arrays in flat order, and their shapes and dtypes."""
    import keras

    return keras.tree.flatten(inputs), input_spec_of(inputs)


def floating(array: np.ndarray) -> np.ndarray:
    """Returns the array as floating point."""
    import keras

    return array if array.dtype.kind == "f" else array.astype(keras.config.floatx())


def check_model(model: Any) -> None:
    """Raises ArgumentError unless it is a Keras 3 model that can be called."""
    import keras

    if not isinstance(model, keras.Layer):
        origin = type(model).__mro__[:-1][-1:] or (object,)
        package = origin[0].__module__.split(".")[0]
        is_keras_2 = package == "tf_keras" or type(model).__module__.startswith("tensorflow.python.keras")
        raise ArgumentError(
            "model",
            "be a Keras 3 model",
            f"{type(model).__name__}, a model of Keras 2 ({package})" if is_keras_2 else type(model).__name__,
            ["a model built with `import keras`", "the environment variable TF_USE_LEGACY_KERAS unset, for tf.keras"]
            if is_keras_2
            else ["keras.Model", "keras.Sequential", "a subclass of keras.Model"],
        )
    if type(model).call in (keras.Model.call, keras.Layer.call):
        held = vars(model) | vars(model).get("_modules", {})  # where PyTorch keeps what was assigned
        parts = {id(part): name for name, part in reversed(held.items()) if isinstance(part, keras.Model)}
        raise ArgumentError(
            "model",
            "have a method `call`",
            f"{type(model).__name__}, which has none",
            [
                f"Explainer(model.{name}), in a callback `explainer=Explainer(model.{name})`"
                for name in reversed(parts.values())
            ]
            or "the model that turns pictures into scores",
        )


def check_channels_last(model: Any) -> None:
    """Raises ArgumentError for a model with its channels first."""
    first = [layer for layer in model._flatten_layers() if getattr(layer, "data_format", None) == "channels_first"]
    if first:
        raise ArgumentError(
            "model",
            "have its channels last",
            f"layer {first[0].name!r} with data_format='channels_first'",
            "the same model built with data_format='channels_last'",
        )


def warn_about_channels(shape: Sequence[int], layouts: Sequence[Layout | None]) -> None:
    """Warns of an input that looks as if its channels came first where nothing shows how the model reads it."""
    placements = [layout.placement for layout in layouts if layout is not None]
    if any(isinstance(placement, Placement) and 0 not in placement.axes for placement in placements):
        return  # the model turns its input itself
    if len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) > 4:
        warnings.warn(
            f"The input of shape {tuple(shape)} looks as if its channels came first; it is read as (H, W, C), and maps "
            "are laid out accordingly.",
            UserWarning,
            stacklevel=4,
        )
