"""``keras-gradcam layers``: lists the layers that can be explained."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer
from ..attribution.layers import list_layers
from ..engine.base import LayerCall
from ..engine.model import declared_inputs
from ..pictures.spec import SIZE, input_shapes, read_size
from .console import print_result
from .errors import CommandError, describe
from .inputs.models import load


def run(options: argparse.Namespace) -> int:
    """Prints a table of layers; returns the exit code."""
    model = load(options.model, options.imports).keras_model
    if not input_shapes(model):
        raise CommandError("MODEL must know the shape of its input. Candidates: keras_gradcam.list_layers in Python.")
    size = SIZE if options.size is None else read_size(options.size)
    images = _blank(model, size)
    calls = list_layers(model, images)
    if not calls:
        raise CommandError("MODEL has no layer with spatial extent.")
    default, reason = _default_layer(model, images)
    print_result("\n".join(_table(calls, default)))
    print_result(f"\n* {reason}" if default is None else "\n* is explained unless --layer names another")
    return 0


def _blank(model: Any, size: tuple[int, int]) -> Any:
    """Returns one sample of zeros as the model takes it."""
    import keras

    def zeros(shape: Sequence[int | None], dtype: Any = "float32") -> np.ndarray:
        free = iter(size)
        extents = [1, *(next(free, size[-1]) if extent is None else extent for extent in shape[1:])]
        return np.zeros(extents, keras.backend.standardize_dtype(dtype))

    inputs = declared_inputs(model)
    if not inputs:
        return zeros(input_shapes(model)[0])
    if len(inputs) == 1:
        return zeros(inputs[0].shape, inputs[0].dtype)
    return keras.tree.map_structure(lambda tensor: zeros(tensor.shape, tensor.dtype), model.input)


def _default_layer(model: Any, images: Any) -> tuple[str | None, str]:
    """Returns the path of the layer that is explained unless one is named, or None and the reason why there is none."""
    import keras

    def any_output(outputs: Any) -> Any:
        flat = keras.tree.flatten(outputs)
        sums = [keras.ops.sum(output, axis=tuple(range(1, len(output.shape)))) for output in flat]
        return sum(sums[1:], sums[0])

    try:
        return Explainer(model, methods=["gradcam"], target=any_output).explained_layer(images), ""
    except ValueError as error:
        return None, describe(error)


def _table(calls: Sequence[LayerCall], default: str | None) -> list[str]:
    """Lays layer calls out as lines of a table; of a layer that is called several times the last call is marked."""
    marked = max((index for index, call in enumerate(calls) if call.path == default), default=-1)
    rows = [("", "path", "class", "output shape", "call")]
    for index, call in enumerate(calls):
        shape = " x ".join("?" if extent is None else str(extent) for extent in call.output_shape[1:])
        rows.append(("*" if index == marked else "", call.path, call.layer_type, shape, str(call.call)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
