"""``keras-gradcam layers``: the layers that can be explained."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer
from ..attribution.layers import list_layers
from ..engine.base import LayerCall
from ..engine.model import declared_inputs
from .console import tell
from .errors import CommandError, in_options
from .inputs.input_spec import SIZE, input_shapes, read_size
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
    chosen, why = _chosen(model, images)
    tell("\n".join(_table(calls, chosen)))
    tell(f"\n* {why}" if chosen is None else "\n* is explained unless --layer names another")
    return 0


def _blank(model: Any, size: tuple[int, int]) -> Any:
    """One sample of zeros as the model takes it."""
    import keras

    def zeros(shape: Sequence[int | None], dtype: Any = "float32") -> np.ndarray:
        free = iter(size)
        known = [1, *(next(free, size[-1]) if extent is None else extent for extent in shape[1:])]
        return np.zeros(known, keras.backend.standardize_dtype(dtype))

    inputs = declared_inputs(model)
    if not inputs:
        return zeros(input_shapes(model)[0])
    if len(inputs) == 1:
        return zeros(inputs[0].shape, inputs[0].dtype)
    return keras.tree.map_structure(lambda one: zeros(one.shape, one.dtype), model.input)


def _chosen(model: Any, images: Any) -> tuple[str | None, str]:
    """Path of the layer that is explained when none is named, or None and why not."""
    import keras

    def any_output(outputs: Any) -> Any:
        sums = [keras.ops.sum(one, axis=tuple(range(1, len(one.shape)))) for one in keras.tree.flatten(outputs)]
        return sum(sums[1:], sums[0])

    try:
        return Explainer(model, methods=["gradcam"], target=any_output).layer_of(images), ""
    except ValueError as error:
        return None, in_options(error)


def _table(calls: Sequence[LayerCall], chosen: str | None) -> list[str]:
    # Of a layer that is called several times it is the last call.
    marked = max((number for number, call in enumerate(calls) if call.path == chosen), default=-1)
    rows = [("", "path", "class", "output shape", "call")]
    for number, call in enumerate(calls):
        shape = " x ".join("?" if extent is None else str(extent) for extent in call.output_shape[1:])
        rows.append(("*" if number == marked else "", call.path, call.layer_type, shape, str(call.call)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
