"""What the programs of all backends do alike around a forward and backward pass: checks, errors, loss scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from ..errors import ArgumentError
from .base import ForwardResult, InputSpec, LayerCall, Outputs, Request, Tensor
from .model import declared_inputs
from .places import Layout

# Factors for float16 gradients, tried from the left until everything is finite.
_LOSS_SCALES = (1024.0, 32.0, 1.0, 1 / 32, 1 / 1024, 1 / 32768)


def build(model: Any, input_spec: InputSpec) -> None:
    """Makes the weights of a model that has not been called yet."""
    if not model.built:
        zeros = [np.zeros((1, *shape), dtype) for shape, dtype in input_spec.leaves]
        # Weights are made when the scope ends; whatever else the call assigns is dropped with it.
        with keras.StatelessScope():
            model(keras.tree.pack_sequence_as(input_spec.structure, zeros), training=False)


def takes_floats(model: Any, input_spec: InputSpec, explained: int) -> bool:
    """Returns whether an explained input of whole numbers is to be cast, unless the model itself takes those there."""
    declared = declared_inputs(model, input_spec.structure)
    wanted = declared[explained].dtype if len(declared) == len(input_spec.leaves) else "float32"
    return not keras.backend.is_int_dtype(wanted)


def check_free_batch(model: Any, input_spec: InputSpec) -> None:
    """Raises ArgumentError if a model takes batches of one size only: it is traced with one sample."""
    declared = declared_inputs(model, input_spec.structure)
    fixed = {tensor.shape[0] for tensor in declared if len(tensor.shape)} - {None, 1}
    if fixed:
        raise ArgumentError(
            "model",
            f"take batches of any size on the backend {keras.config.backend()!r}",
            f"one whose inputs have a batch size of {fixed.pop()}",
            "the same model built without `batch_size` and `batch_shape`, with the weights of this one",
        )


def needs_outputs(requests: Sequence[Request]) -> bool:
    """Returns whether the model's outputs are computed: for a feature map alone they need not be."""
    return any(request.target is not None or not request.features for request in requests)


def scores_of(target: Any, outputs: Outputs, arguments: Sequence[Tensor], samples: int | None) -> Tensor:
    """Computes a target's scores as float32 (N,); raises ArgumentError if their shape is another.

    Args:
        target: The target.
        outputs: The model's outputs.
        arguments: What else the target needs of each sample.
        samples: N; None where it is free.
    """
    scores = keras.ops.convert_to_tensor(target.scores(outputs, arguments))
    # `outputs[0]` instead of `outputs[:, 0]` has a fixed length, that of the classes.
    if len(scores.shape) != 1 or scores.shape[0] not in (None, samples):
        raise ArgumentError(
            "target",
            "give one score per sample, shape (batch,)",
            f"shape {tuple(scores.shape)} from {target!r} for {samples or 'any number of'} samples",
            "reduce the other axes, for example `lambda outputs: outputs[:, 0]`",
        )
    return keras.ops.cast(scores, "float32")


def shapes_of(outputs: Outputs) -> Outputs:
    """Returns the outputs with shapes and dtypes in place of tensors, None for the batch, for checks on targets."""

    def shape(tensor: Any) -> keras.KerasTensor | None:
        if tensor is None:
            return None
        extents = (None, *tensor.shape[1:]) if len(tensor.shape) else ()
        return keras.KerasTensor(extents, dtype=keras.backend.standardize_dtype(tensor.dtype))

    return replace(
        outputs,
        predictions=mapped(shape, outputs.predictions),
        logits=mapped(shape, outputs.logits),
        pre_normalization=mapped(shape, outputs.pre_normalization),
    )


def mapped(function: Callable[[Any], Any], structure: Any) -> Any:
    """Applies a function to the leaves of a structure, None among them."""
    return keras.tree.pack_sequence_as(structure, [function(leaf) for leaf in keras.tree.flatten(structure)])


def no_influence(layer: LayerCall) -> ArgumentError:
    """Returns the error for a layer that the score does not depend on."""
    return ArgumentError(
        "layer",
        "influence the target",
        f"{layer.path!r}, whose output the explained score does not depend on",
        "a layer between the input and the explained output, outside of blocks that are recomputed (keras.remat); "
        "see list_layers(model)",
    )


def no_input_gradient(dtype: str) -> ArgumentError:
    """Returns the error for an input to which no gradient flows."""
    return ArgumentError(
        "model",
        "be differentiable from the score to its input for this method",
        f"an input of dtype {dtype}, to which no gradient flows",
        ["methods=('gradcam',)", "a model whose input is floating point"],
    )


def passed_by(layer: LayerCall) -> ArgumentError:
    """Returns the error for a cut at a layer that a path leads past."""
    return ArgumentError(
        "layer",
        "be one through which all goes from the pictures to the embedding",
        f"{layer.path!r}, which a branch of the model passes by",
        "a layer after the branches have joined; form='gradient'",
    )


def check_batch(layer: LayerCall | None, maps: int, samples: int) -> None:
    """Raises ArgumentError unless a layer gives one map per sample."""
    if layer is not None and maps != samples:
        raise ArgumentError(
            "layer",
            "give one map per sample",
            f"{layer.path!r}, which gives {maps} for {samples}: the model lays something else into the batch there",
            "those of list_layers(model)",
        )


def on_grid(features: Tensor, layout: Layout) -> Tensor:
    """Returns a feature map with the axes of its grid: tokens (N, tokens, channels) are laid on it."""
    if len(features.shape) == len(layout.grid) + 2:
        return features
    patches = features[:, layout.first : layout.first + math.prod(layout.grid)]
    return keras.ops.reshape(patches, (-1, *layout.grid, features.shape[-1]))


def in_loss_scales(run: Callable[[float, float], list[dict[str, Any]]], half: bool) -> list[dict[str, Any]]:
    """Runs a pass, in half precision with the first loss scales under which nothing overflows.

    Args:
        run: Takes the loss scales of CAMs and of the input's gradients; returns the answers as NumPy arrays.
        half: Whether the model computes in float16.
    """
    if not half:
        return run(1.0, 1.0)
    scales = [0, 0]  # of the maps and of the gradients of the input, as indices of _LOSS_SCALES
    while True:
        answers = run(*(_LOSS_SCALES[index] for index in scales))
        overflown = [
            index
            for index, names in enumerate((("cams",), ("gradient", "guided_backprop")))
            if not all(_finite(answer.get(name)) for answer in answers for name in names)
        ]
        if not overflown or any(scales[index] + 1 == len(_LOSS_SCALES) for index in overflown):
            return answers
        for index in overflown:
            scales[index] += 1


def _finite(entry: Mapping[str, np.ndarray] | np.ndarray | None) -> bool:
    arrays = entry.values() if isinstance(entry, Mapping) else [] if entry is None else [entry]
    return all(bool(np.isfinite(array).all()) for array in arrays)


def computes_in_float16(model: Any) -> bool:
    """Returns whether a layer of a model computes in float16."""
    return any(getattr(layer, "compute_dtype", None) == "float16" for layer in model._flatten_layers())


def results_of(
    predictions: Any, answers: Sequence[dict[str, Any]], layers: Sequence[LayerCall | None], samples: int
) -> list[ForwardResult]:
    """Returns the answers to requests as results; raises ArgumentError unless there is one score and map per sample."""
    for answer, layer in zip(answers, layers, strict=True):
        maps = [*answer.get("cams", {}).values(), *([answer["features"]] if "features" in answer else [])]
        for array in maps:
            check_batch(layer, len(array), samples)
        if "scores" in answer and len(answer["scores"]) != samples:
            raise ArgumentError(
                "target", "give one score per sample", f"{len(answer['scores'])} scores for {samples} samples"
            )
    return [ForwardResult(predictions, **answer) for answer in answers]
