"""Compiles a model with the maps that are wanted of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from ...errors import ArgumentError
from ...grids import Placement
from ..base import ForwardResult, InputSpec, LayerCall, Request
from ..graphs.placement import PlaceReader
from ..passes import (
    check_batch,
    computes_in_float16,
    in_loss_scales,
    needs_outputs,
    no_influence,
    no_input_gradient,
    on_grid,
    results_of,
    scores_of,
    shapes_of,
)
from ..places import Layout
from .graph import Trace, input_specs, prune, trace_forward
from .guided import attach_guided_rule, count_recomputed, guided


def _gradient(scores: tf.Tensor, scale: tf.Tensor, of: tf.Tensor, error: ArgumentError) -> tf.Tensor:
    """Differentiates the sum of scores with respect to ``of``, in float32.

    Args:
        scores: float32 (N,).
        scale: Factor of the scores that keeps half precision away from zero and infinity on the way.
        of: A tensor that the scores are computed from.
        error: Raised if they are not.
    """
    (gradient,) = tf.gradients(scores, [of], grad_ys=[tf.fill(tf.shape(scores), scale)])
    if gradient is None:
        raise error
    return tf.cast(gradient, tf.float32) / scale


class TensorFlowProgram:
    """A compiled model with some requests; see :class:`keras_gradcam.engine.base.Program`."""

    def __init__(self, model: Any, input_spec: InputSpec, requests: Sequence[Request]) -> None:
        chosen: list[Chosen | None] = []
        specs = [
            [tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in request.arguments]
            for request in requests
        ]
        self._half = computes_in_float16(model)

        def passes(inputs: Sequence[tf.Tensor], arguments: Sequence[Any], scales: tf.Tensor) -> dict[str, Any]:
            trace = trace_forward(model, input_spec, inputs, requests[0].explained_input)
            graph = tf.compat.v1.get_default_graph()
            guided_coverage = attach_guided_rule(graph, trace.translation)
            forward_operations = len(graph.get_operations())
            reader = trace.reader(requests[0].explained_input)
            answers = []
            for request, target_arguments in zip(requests, arguments, strict=True):
                answer, layer = _answer(request, trace, target_arguments, scales, reader)
                answers.append(answer)
                chosen.append(layer)
            self.outputs = shapes_of(trace.outputs)
            self.guided_coverage = replace(
                guided_coverage, unreached=guided_coverage.unreached + count_recomputed(graph, forward_operations)
            )
            returned = [leaf for leaf in tf.nest.flatten(trace.outputs.predictions) if leaf is not None]
            return {"answers": answers, **({"predictions": returned} if needs_outputs(requests) else {})}

        traced = tf.compat.v1.wrap_function(passes, [input_specs(input_spec), specs, tf.TensorSpec((2,), tf.float32)])
        self._function = prune(
            traced, traced.inputs[: len(input_spec.leaves) + sum(map(len, specs)) + 1], traced.structured_outputs
        )
        self.layers: tuple[LayerCall | None, ...] = tuple(None if layer is None else layer.info for layer in chosen)
        self.layouts: tuple[Layout | None, ...] = tuple(None if layer is None else layer.layout for layer in chosen)
        pictures = traced.inputs[: len(input_spec.leaves)]
        self._cells = {
            request: (
                prune(traced, pictures, [layer.features]),
                prune(traced, [*pictures, layer.selector], [layer.gradient]),
            )
            for request, layer in enumerate(chosen)
            if layer is not None and layer.selector is not None
        }

    def __call__(self, inputs: Sequence[np.ndarray], arguments: Sequence[Sequence[np.ndarray]]) -> list[ForwardResult]:
        tensors = [tf.convert_to_tensor(array) for array in (*inputs, *(one for part in arguments for one in part))]
        results: dict[str, Any] = {}

        def run(cams: float, gradients: float) -> list[dict[str, Any]]:
            returned = self._function(*tensors, tf.constant([cams, gradients], tf.float32))
            results.update(tf.nest.map_structure(lambda tensor: tensor.numpy(), returned))
            return results["answers"]

        answers, predictions = in_loss_scales(run, self._half), None
        if "predictions" in results:
            structure, returned = self.outputs.predictions, iter(results["predictions"])
            predictions = tf.nest.map_structure(lambda leaf: None if leaf is None else next(returned), structure)
        return results_of(predictions, answers, self.layers, len(inputs[0]))

    def cell_gradients(
        self, request: int, inputs: Sequence[np.ndarray], positions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        pictures = [tf.convert_to_tensor(np.repeat(array, len(positions), axis=0)) for array in inputs]
        (run, differentiate), layer = self._cells[request], self.layers[request]
        (features,) = run(*pictures)
        check_batch(layer, len(features), len(positions))
        grid = tuple(features.shape[1:-1])
        cells = (positions * grid).astype(int)
        selector = np.zeros(features.shape, np.float32)
        selector[(np.arange(len(cells)), *cells.T)] = 1
        (gradients,) = differentiate(*pictures, tf.convert_to_tensor(selector))
        return gradients.numpy(), cells, grid


@dataclass(frozen=True)
class Chosen:
    """The layer that a request has chosen.

    Attributes:
        info: The layer.
        layout: How its map lies in its output and on the input.
        features: The feature map.
        selector: A placeholder shaped like the feature map; None where the map lies over the whole input.
        gradient: The gradient of the sum of selector times feature map with respect to the explained input.
    """

    info: LayerCall
    layout: Layout
    features: tf.Tensor
    selector: tf.Tensor | None = None
    gradient: tf.Tensor | None = None


def _answer(
    request: Request, trace: Trace, arguments: Sequence[tf.Tensor], scales: tf.Tensor, reader: PlaceReader
) -> tuple[dict[str, Any], Chosen | None]:
    """Returns the results of one request as symbolic tensors, and the layer it has chosen."""
    answer: dict[str, Any] = {}
    ends = None
    if request.target is not None:
        target, outputs = request.target, trace.outputs
        target.check(shapes_of(outputs))
        batch = next(leaf for leaf in tf.nest.flatten(outputs.predictions) if leaf is not None).shape[0]
        answer["scores"] = scores_of(target, outputs, arguments, batch)
        ends = [answer["scores"]]
        classes = target.classes(outputs, arguments)
        if classes is not None:
            answer["classes"] = classes
        if request.resolved_arguments:
            answer["arguments"] = target.resolve_arguments(outputs, arguments)
    layer = None
    if request.cams or request.features:
        layer = _add_maps(answer, request, trace, ends, scales[0], reader)
    _add_input_gradients(answer, request, trace, scales[1])
    return answer, layer


def _add_maps(
    answer: dict[str, Any],
    request: Request,
    trace: Trace,
    ends: Sequence[tf.Tensor] | None,
    scale: tf.Tensor,
    reader: PlaceReader,
) -> Chosen:
    """Adds feature map and CAMs of a request's layer to its answer; returns the layer."""
    layer_output = request.select(trace.marked(ends))
    layer, explained = layer_output.info, trace.inputs[request.explained_input]
    lies = trace.layout(layer_output, reader, request.explained_input)
    features = on_grid(tf.cast(layer_output.output, tf.float32), lies)
    if request.features:
        answer["features"] = features
    if request.cams:
        gradient = _gradient(answer["scores"], scale, layer_output.output, no_influence(layer))
        gradients = on_grid(gradient, lies)
        answer["cams"] = {name: formula(features, gradients) for name, formula in request.cams.items()}
    if isinstance(lies.placement, Placement) and lies.placement.is_whole:
        return Chosen(layer, lies, features)
    selector = tf.compat.v1.placeholder(tf.float32, features.shape)
    (gradient,) = tf.gradients(features, [explained], grad_ys=[selector])
    if gradient is None:  # an input of integers, such as the numbers of words, of which nothing can be checked
        return Chosen(layer, replace(lies, placement=Placement.whole(len(lies.grid))), features)
    return Chosen(layer, lies, features, selector, tf.cast(gradient, tf.float32))


def _add_input_gradients(answer: dict[str, Any], request: Request, trace: Trace, scale: tf.Tensor) -> None:
    """Adds the gradients with respect to the explained input that a request wants to its answer."""
    explained = trace.inputs[request.explained_input]
    error = no_input_gradient(explained.dtype.name)
    if request.gradient:
        answer["gradient"] = _gradient(answer["scores"], scale, explained, error)
    if request.guided_backprop:
        with guided():
            answer["guided_backprop"] = _gradient(answer["scores"], scale, explained, error)
