"""Compiles a model with the maps that are wanted of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from ...errors import ArgumentError
from ...grids import token_grid
from ..base import ForwardResult, InputSpec, LayerCall, LayerOutput, Outputs, Request
from .graph import _check_batch, _compiled, _float_inputs, _forward, _marked, _specs
from .guided import attach_guided_rule, guided, recomputed
from .outputs import _model_outputs, _shapes

# Factors for float16 gradients, tried from the left until everything is finite.
_LOSS_SCALES = (1024.0, 32.0, 1.0, 1 / 32, 1 / 1024, 1 / 32768)


def _gradient(scores: tf.Tensor, scale: tf.Tensor, of: tf.Tensor, message: str) -> tf.Tensor:
    """d(sum of scores)/d(of) in float32; ``scale`` keeps half precision away from zero on the way."""
    (gradient,) = tf.gradients(scores, [of], grad_ys=[tf.fill(tf.shape(scores), scale)])
    if gradient is None:
        raise ValueError(message)
    return tf.cast(gradient, tf.float32) / scale


def _scores(target: Any, outputs: Outputs, arguments: Sequence[tf.Tensor]) -> tf.Tensor:
    scores = tf.convert_to_tensor(target.scores(outputs, arguments))
    batch = tf.nest.flatten(outputs.predictions)[0].shape[0]
    # `outputs[0]` instead of `outputs[:, 0]` has a fixed length, that of the classes.
    if scores.shape.rank != 1 or scores.shape[0] not in (None, batch):
        raise ArgumentError(
            "target",
            "give one score per sample, shape (batch,)",
            f"shape {tuple(scores.shape)} from {target!r}",
            "reduce the other axes, for example `lambda outputs: outputs[:, 0]`",
        )
    return tf.cast(scores, tf.float32)


class TensorFlowProgram:
    """A compiled model with some requests; see :class:`keras_gradcam.engine.base.Program`."""

    def __init__(self, model: Any, input_spec: InputSpec, requests: Sequence[Request]) -> None:
        layers: list[LayerCall | None] = []
        specs = [
            [tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in request.arguments]
            for request in requests
        ]
        self._half = _computes_in_float16(model)

        def passes(inputs: Sequence[tf.Tensor], arguments: Sequence[Any], scales: tf.Tensor) -> dict[str, Any]:
            inputs = _float_inputs(model, input_spec.structure, inputs, requests[0].explained_input)
            predictions, layer_outputs = _forward(model, tf.nest.pack_sequence_as(input_spec.structure, inputs))
            graph = tf.compat.v1.get_default_graph()
            guided_coverage = attach_guided_rule(graph)
            forward = len(graph.get_operations())
            outputs = _model_outputs(model, predictions)
            answers = []
            for request, given in zip(requests, arguments, strict=True):
                answer, layer = _answer(request, inputs, outputs, layer_outputs, given, scales)
                answers.append(answer)
                layers.append(layer)
            self.outputs = _shapes(outputs)
            self.guided_coverage = replace(
                guided_coverage,
                unreached=guided_coverage.unreached + recomputed(graph, forward),
                others=tuple(sorted({*guided_coverage.others, *_activation_names(model)})),
            )
            # For a feature map alone what comes after it need not be computed.
            whole = any(request.target is not None or not request.features for request in requests)
            return {"answers": answers, **({"predictions": outputs.predictions} if whole else {})}

        self._function = _compiled(passes, [_specs(input_spec), specs, tf.TensorSpec((2,), tf.float32)])
        self.layers = tuple(layers)

    def __call__(self, inputs: Sequence[np.ndarray], arguments: Sequence[Sequence[np.ndarray]]) -> list[ForwardResult]:
        scales = [0, 0]
        while True:
            factors = [_LOSS_SCALES[index] if self._half else 1.0 for index in scales]
            arrays = (*inputs, *(array for given in arguments for array in given), np.array(factors, np.float32))
            results = self._function(*(tf.convert_to_tensor(array) for array in arrays))
            results = tf.nest.map_structure(lambda tensor: tensor.numpy(), results)
            overflown = [
                index
                for index, names in enumerate((("cams",), ("gradient", "guided_backprop")))
                if self._half and not _finite([answer.get(name) for answer in results["answers"] for name in names])
            ]
            if not overflown or any(scales[index] + 1 == len(_LOSS_SCALES) for index in overflown):
                break
            for index in overflown:
                scales[index] += 1
        for answer, layer in zip(results["answers"], self.layers, strict=True):
            for array in (*answer.get("cams", {}).values(), *([answer["features"]] if "features" in answer else [])):
                _check_batch(layer, len(array), len(inputs[0]))
            if "scores" in answer and len(answer["scores"]) != len(inputs[0]):
                raise ArgumentError(
                    "target",
                    "give one score per sample",
                    f"{len(answer['scores'])} scores for {len(inputs[0])} samples",
                )
        return [ForwardResult(results.get("predictions"), **answer) for answer in results["answers"]]


def _answer(
    request: Request,
    inputs: Sequence[tf.Tensor],
    outputs: Outputs,
    layer_outputs: Sequence[LayerOutput],
    arguments: Sequence[tf.Tensor],
    scales: tf.Tensor,
) -> tuple[dict[str, Any], LayerCall | None]:
    """The results of one request as symbolic tensors, and the layer it has chosen."""
    answer: dict[str, Any] = {}
    explained = inputs[request.explained_input]
    ends, scores = tf.nest.flatten(outputs.predictions), None
    if request.target is not None:
        request.target.check(_shapes(outputs))
        scores = _scores(request.target, outputs, arguments)
        ends = [scores]
        answer["scores"] = scores
        classes = request.target.classes(outputs, arguments)
        if classes is not None:
            answer["classes"] = classes
        if request.resolved_arguments:
            answer["arguments"] = request.target.resolve_arguments(outputs, arguments)
    if request.cams or request.features:
        layer_output = request.select(_marked(layer_outputs, ends, outputs, inputs))
        shape = explained.shape[1:]
        features = _on_grid(tf.cast(layer_output.output, tf.float32), layer_output.info, shape)
        if request.features:
            answer["features"] = features
    if request.cams:
        gradients = _gradient(
            scores,
            scales[0],
            layer_output.output,
            f"`layer` must influence the target. Received: {layer_output.info.path!r}, "
            "whose output the explained score does not depend on. "
            "Candidates: a layer between the input and the explained output, outside of blocks that are "
            "recomputed (keras.remat); see list_layers(model).",
        )
        gradients = _on_grid(gradients, layer_output.info, shape)
        answer["cams"] = {name: formula(features, gradients) for name, formula in request.cams.items()}
    message = (
        "`model` must be differentiable from the score to its input for this method. "
        f"Received: an input of dtype {explained.dtype.name}, to which no gradient flows. "
        'Candidates: methods=("gradcam",), or a model whose input is floating point.'
    )
    if request.gradient:
        answer["gradient"] = _gradient(scores, scales[1], explained, message)
    if request.guided_backprop:
        with guided():
            answer["guided_backprop"] = _gradient(scores, scales[1], explained, message)
    return answer, layer_output.info if request.cams or request.features else None


def _finite(structure: Any) -> bool:
    return all(np.isfinite(array).all() for array in tf.nest.flatten(structure) if array is not None)


def _on_grid(features: tf.Tensor, info: LayerCall, shape: Sequence[int]) -> tf.Tensor:
    """A feature map with the spatial axes of the input: tokens (batch, tokens, channels) are laid out on their grid."""
    if features.shape.rank > len(shape):
        return features
    grid = token_grid(info.output_shape, shape[:-1]) or ()
    patches = features[:, features.shape[1] - math.prod(grid) :]
    return tf.reshape(patches, (-1, *grid, features.shape[-1]))


def _computes_in_float16(model: Any) -> bool:
    return any(getattr(layer, "compute_dtype", None) == "float16" for layer in model._flatten_layers())


def _activation_names(model: Any) -> set[str]:
    """Names of the activations, other than rectifiers and final_activations, that the model's layers declare."""
    plain = {"linear", "relu", "relu6", "leaky_relu", "softmax", "log_softmax", "sigmoid"}
    names = {getattr(getattr(layer, "activation", None), "__name__", "linear") for layer in model._flatten_layers()}
    return names - plain
