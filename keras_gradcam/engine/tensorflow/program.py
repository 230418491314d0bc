"""Compiles a model with the maps that are wanted of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from ...errors import ArgumentError
from ...grids import Placement
from ..base import ForwardResult, InputSpec, LayerCall, Outputs, Request
from ..passes import check_batch, computes_in_float16
from ..places import Layout, Lost
from .graph import Trace, input_specs, prune, trace_forward
from .guided import attach_guided_rule, count_recomputed, guided
from .outputs import shapes_of
from .placement import PlaceReader, layout_of

# Factors for float16 gradients, tried from the left until everything is finite.
_LOSS_SCALES = (1024.0, 32.0, 1.0, 1 / 32, 1 / 1024, 1 / 32768)


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


def _scores(target: Any, outputs: Outputs, arguments: Sequence[tf.Tensor]) -> tf.Tensor:
    """Computes a target's scores as float32 (N,); raises ArgumentError if their shape is another."""
    scores = tf.convert_to_tensor(target.scores(outputs, arguments))
    batch = next(leaf for leaf in tf.nest.flatten(outputs.predictions) if leaf is not None).shape[0]
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
        chosen: list[Chosen | None] = []
        specs = [
            [tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in request.arguments]
            for request in requests
        ]
        self._half = computes_in_float16(model)

        def passes(inputs: Sequence[tf.Tensor], arguments: Sequence[Any], scales: tf.Tensor) -> dict[str, Any]:
            trace = trace_forward(model, input_spec, inputs, requests[0].explained_input)
            graph = tf.compat.v1.get_default_graph()
            guided_coverage = attach_guided_rule(graph)
            forward_operations = len(graph.get_operations())
            explained = trace.inputs[requests[0].explained_input]
            reader = PlaceReader.of_input(explained, explained.shape[1:])
            answers = []
            for request, target_arguments in zip(requests, arguments, strict=True):
                answer, layer = _answer(request, trace, target_arguments, scales, reader)
                answers.append(answer)
                chosen.append(layer)
            self.outputs = shapes_of(trace.outputs)
            self.guided_coverage = replace(
                guided_coverage, unreached=guided_coverage.unreached + count_recomputed(graph, forward_operations)
            )
            # For a feature map alone what comes after it need not be computed.
            whole = any(request.target is not None or not request.features for request in requests)
            returned = [leaf for leaf in tf.nest.flatten(trace.outputs.predictions) if leaf is not None]
            return {"answers": answers, **({"predictions": returned} if whole else {})}

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
        results = self._run((*inputs, *(array for arrays in arguments for array in arrays)))
        for answer, layer in zip(results["answers"], self.layers, strict=True):
            maps = [*answer.get("cams", {}).values(), *([answer["features"]] if "features" in answer else [])]
            for array in maps:
                check_batch(layer, len(array), len(inputs[0]))
            if "scores" in answer and len(answer["scores"]) != len(inputs[0]):
                raise ArgumentError(
                    "target",
                    "give one score per sample",
                    f"{len(answer['scores'])} scores for {len(inputs[0])} samples",
                )
        predictions = None
        if "predictions" in results:
            structure, returned = self.outputs.predictions, iter(results["predictions"])
            predictions = tf.nest.map_structure(lambda leaf: None if leaf is None else next(returned), structure)
        return [ForwardResult(predictions, **answer) for answer in results["answers"]]

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

    def _run(self, arrays: Sequence[np.ndarray]) -> dict[str, Any]:
        """Runs the graph, in half precision with the first loss scales under which nothing overflows."""
        scales = [0, 0]  # of the maps and of the gradients of the input, as indices of _LOSS_SCALES
        while True:
            factors = [_LOSS_SCALES[index] if self._half else 1.0 for index in scales]
            results = self._function(
                *(tf.convert_to_tensor(array) for array in (*arrays, np.array(factors, "float32")))
            )
            results = tf.nest.map_structure(lambda tensor: tensor.numpy(), results)
            overflown = [
                index
                for index, names in enumerate((("cams",), ("gradient", "guided_backprop")))
                if self._half and not _finite([answer.get(name) for answer in results["answers"] for name in names])
            ]
            if not overflown or any(scales[index] + 1 == len(_LOSS_SCALES) for index in overflown):
                return results
            for index in overflown:
                scales[index] += 1


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
        answer["scores"] = _scores(target, outputs, arguments)
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
    lies = layout_of(layer_output, reader, explained.shape[1:])
    features = _on_grid(tf.cast(layer_output.output, tf.float32), lies)
    if request.features:
        answer["features"] = features
    if request.cams:
        error = ArgumentError(
            "layer",
            "influence the target",
            f"{layer.path!r}, whose output the explained score does not depend on",
            "a layer between the input and the explained output, outside of blocks that are recomputed (keras.remat); "
            "see list_layers(model)",
        )
        gradients = _on_grid(_gradient(answer["scores"], scale, layer_output.output, error), lies)
        answer["cams"] = {name: formula(features, gradients) for name, formula in request.cams.items()}
    if isinstance(lies.placement, Placement) and lies.placement.is_whole:
        return Chosen(layer, lies, features)
    selector = tf.compat.v1.placeholder(tf.float32, features.shape)
    (gradient,) = tf.gradients(features, [explained], grad_ys=[selector])
    if gradient is None:  # an input of integers, such as the numbers of words, of which nothing can be checked
        return Chosen(layer, replace(lies, placement=Placement.whole(len(lies.grid))), features)
    if isinstance(lies.placement, Lost):
        lies = replace(lies, placement=replace(lies.placement, layer=_first_lost(trace, reader, explained.shape[1:])))
    return Chosen(layer, lies, features, selector, tf.cast(gradient, tf.float32))


def _first_lost(trace: Trace, reader: PlaceReader, size: Sequence[int]) -> str:
    """Returns the path of the first layer that is computed from the input and whose map has no place on it."""
    return next(
        (
            output.info.path
            for output in trace.layer_outputs
            if len(output.info.output_shape) > 2 and isinstance(layout_of(output, reader, size).placement, Lost)
        ),
        "",
    )


def _add_input_gradients(answer: dict[str, Any], request: Request, trace: Trace, scale: tf.Tensor) -> None:
    """Adds the gradients with respect to the explained input that a request wants to its answer."""
    explained = trace.inputs[request.explained_input]
    error = ArgumentError(
        "model",
        "be differentiable from the score to its input for this method",
        f"an input of dtype {explained.dtype.name}, to which no gradient flows",
        ["methods=('gradcam',)", "a model whose input is floating point"],
    )
    if request.gradient:
        answer["gradient"] = _gradient(answer["scores"], scale, explained, error)
    if request.guided_backprop:
        with guided():
            answer["guided_backprop"] = _gradient(answer["scores"], scale, explained, error)


def _finite(structure: Any) -> bool:
    return all(np.isfinite(array).all() for array in tf.nest.flatten(structure) if array is not None)


def _on_grid(features: tf.Tensor, lies: Layout) -> tf.Tensor:
    """Returns a feature map with the axes of its grid: tokens (N, tokens, channels) are laid on it."""
    if features.shape.rank == len(lies.grid) + 2:
        return features
    patches = features[:, lies.first : lies.first + math.prod(lies.grid)]
    return tf.reshape(patches, (-1, *lies.grid, features.shape[-1]))
