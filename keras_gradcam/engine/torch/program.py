"""Runs a model with the maps that are wanted of it: one forward pass, and a backward pass for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import torch
from torch.utils.checkpoint import CheckpointError

from ...grids import Placement
from ..base import ForwardResult, InputSpec, LayerCall, LayerOutput, Outputs, Request
from ..graphs.activations import guided_coverage
from ..graphs.placement import PlaceReader, layout_of
from ..passes import (
    build,
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
from .arrays import array_of, tensor_of_array
from .forward import Capture, Captured, Forward, Key, Trace, captured_of, samples_of
from .guided import GuidedRule
from .state import device_of, free_circles


@dataclass(frozen=True)
class Chosen:
    """The layer that a request has chosen.

    Attributes:
        key: What tells its call from others.
        info: The layer.
        layout: How its map lies in its output and on the input.
        is_rewritten: Whether the model overwrites its output in place.
    """

    key: Key
    info: LayerCall
    layout: Layout
    is_rewritten: bool


@dataclass(frozen=True, eq=False)
class _Asked:
    """A request in a pass.

    Attributes:
        request: The request.
        chosen: Its layer, if it has one.
        captured: What that layer has returned.
        scores: float32 (N,), if it has a target.
        answer: What needs no gradient.
    """

    request: Request
    chosen: Chosen | None
    captured: Captured | None
    scores: torch.Tensor | None
    answer: dict[str, Any]


class TorchProgram:
    """A model with some requests; see :class:`keras_gradcam.engine.base.Program`.

    The model is called each time as it is, by Python. What its operators mean was found out when one sample was traced.
    """

    def __init__(self, model: Any, input_spec: InputSpec, requests: Sequence[Request]) -> None:
        self._requests = tuple(requests)
        build(model, input_spec)
        self._half = computes_in_float16(model)
        self._forward = Forward(model, input_spec, device_of(model), requests[0].explained_input)
        with self._forward.session():
            capture = Capture(None)
            trace = self._forward.traced(samples_of(input_spec), capture)
            self.guided_coverage = guided_coverage(trace.activations)
            outputs = trace.outputs()
            self.outputs: Outputs = shapes_of(outputs)
            explained = trace.inputs[self._forward.explained]
            reader = PlaceReader.of_input(trace.recorder.value(explained), explained.shape[1:])
            self._chosen = tuple(
                self._choose(request, trace, outputs, capture.captured, reader) for request in self._requests
            )
        self.layers: tuple[LayerCall | None, ...] = tuple(None if one is None else one.info for one in self._chosen)
        self.layouts: tuple[Layout | None, ...] = tuple(None if one is None else one.layout for one in self._chosen)
        self._is_whole = needs_outputs(requests)
        self._by_input = any(request.gradient or request.guided_backprop for request in requests)
        self._guided = any(request.guided_backprop for request in requests)
        self._gradients = self._by_input or any(request.cams for request in requests)
        # Whether a part of the model is run again in backward passes.
        self._recomputes = False

    def _choose(
        self, request: Request, trace: Trace, outputs: Outputs, captured: dict[Key, Captured], reader: PlaceReader
    ) -> Chosen | None:
        """Checks a request on a trace of one sample; returns the layer that it chooses, if it needs one."""
        explained, ends, scores = trace.inputs[self._forward.explained], None, None
        if request.target is not None:
            request.target.check(self.outputs)
            arguments = [tensor_of_array(array[:1]) for array in request.arguments]
            with trace.recorder:
                scores = scores_of(request.target, outputs, arguments, 1)
            ends = [trace.recorder.value(scores)]
        chosen = None
        if request.cams or request.features:
            selected = request.select(trace.marked(ends))
            key = trace.first_with(selected.output)
            if request.cams and not _reaches(scores, captured[key].edge):
                raise no_influence(selected.info)
            layout = self._layout(selected, captured[key], trace, reader)
            chosen = Chosen(key, selected.info, layout, key in trace.rewritten)
        if (request.gradient or request.guided_backprop) and not _reaches(scores, explained):
            raise no_input_gradient(str(keras.backend.standardize_dtype(explained.dtype)))
        return chosen

    def _layout(self, selected: LayerOutput, captured: Captured, trace: Trace, reader: PlaceReader) -> Layout:
        """Returns how the map of a layer lies in its output and on the explained input."""
        explained = trace.inputs[self._forward.explained]
        layout = layout_of(selected, reader, tuple(explained.shape[1:]), trace.layer_outputs)
        if isinstance(layout.placement, Placement) and layout.placement.is_whole:
            return layout
        if not _reaches(captured.edge, explained):  # numbers of words, for example, of which nothing can be checked
            return replace(layout, placement=Placement.whole(len(layout.grid)))
        return layout

    def __call__(self, inputs: Sequence[np.ndarray], arguments: Sequence[Sequence[np.ndarray]]) -> list[ForwardResult]:
        try:
            return self._answers(inputs, arguments)
        except CheckpointError:
            # What the backward pass runs again (keras.remat) knows neither the leaves nor the weights of the first run.
            if self._recomputes:
                raise
            self._recomputes = True
            return self._answers(inputs, arguments)
        finally:
            free_circles()

    def _answers(self, inputs: Sequence[np.ndarray], arguments: Sequence[Sequence[np.ndarray]]) -> list[ForwardResult]:
        samples, recomputes = len(inputs[0]), self._recomputes
        with self._forward.session(self._gradients, by_weights=recomputes):
            tensors = self._forward.tensors(inputs, self._by_input or (self._gradients and recomputes))
            wanted = {chosen.key: chosen.is_rewritten for chosen in self._chosen if chosen is not None}
            run, capture = self._forward.run(
                tensors,
                lambda: Capture(wanted, self._gradients, is_enough=not self._is_whole),
                guided=self._guided,
                to_the_end=self._is_whole,
            )
            rule = GuidedRule()
            rule.attach(run.seen.nodes, run.plan.rectifiers)
            explained = tensors[self._forward.explained]
            outputs = run.outputs() if self._is_whole else None
            asked = [
                self._ask(request, chosen, capture.captured, outputs, given, samples)
                for request, chosen, given in zip(self._requests, self._chosen, arguments, strict=True)
            ]
            answers = in_loss_scales(
                lambda cams, gradients: [_answer(one, explained, rule, cams, gradients) for one in asked], self._half
            )
            predictions = None if outputs is None else keras.tree.map_structure(_array_or_none, outputs.predictions)
        return results_of(predictions, answers, self.layers, samples)

    def _ask(
        self,
        request: Request,
        chosen: Chosen | None,
        captured: dict[Key, Captured],
        outputs: Outputs | None,
        arguments: Sequence[np.ndarray],
        samples: int,
    ) -> _Asked:
        """Computes what of a request needs no gradient."""
        answer: dict[str, Any] = {}
        scores, layer = None, None if chosen is None else captured_of(captured, chosen.key, chosen.info)
        if request.target is not None:
            assert outputs is not None
            target, given = request.target, [tensor_of_array(array) for array in arguments]
            scores = scores_of(target, outputs, given, samples)
            answer["scores"] = array_of(scores)
            classes = target.classes(outputs, given)
            if classes is not None:
                answer["classes"] = array_of(classes)
            if request.resolved_arguments:
                answer["arguments"] = tuple(array_of(part) for part in target.resolve_arguments(outputs, given))
        if chosen is not None and layer is not None:
            check_batch(chosen.info, len(layer.features), samples)
            if request.features:
                answer["features"] = array_of(_map_of(layer.features, chosen))
        return _Asked(request, chosen, layer, scores, answer)

    def cell_gradients(
        self, request: int, inputs: Sequence[np.ndarray], positions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        chosen = self._chosen[request]
        assert chosen is not None
        pictures = [np.repeat(array, len(positions), axis=0) for array in inputs]
        with self._forward.session():
            tensors = self._forward.tensors(pictures, by_input=True)
            wanted = {chosen.key: chosen.is_rewritten}
            _, capture = self._forward.run(tensors, lambda: Capture(wanted, is_enough=True), to_the_end=False)
            features = _map_of(captured_of(capture.captured, chosen.key, chosen.info).features, chosen)
            check_batch(chosen.info, len(features), len(positions))
            grid = tuple(features.shape[1:-1])
            cells = (positions * grid).astype(int)
            selected = features[(np.arange(len(cells)), *cells.T)]
            explained = tensors[self._forward.explained]
            (gradients,) = torch.autograd.grad(selected.sum(), [explained], allow_unused=True)
            if gradients is None:
                gradients = torch.zeros_like(explained)
            return array_of(gradients.to(torch.float32)), cells, grid


def _map_of(features: torch.Tensor, chosen: Chosen) -> torch.Tensor:
    """Returns a feature map, or its gradients, in float32 with the axes of its grid."""
    return on_grid(features.to(torch.float32), chosen.layout)


def _answer(asked: _Asked, explained: torch.Tensor, rule: GuidedRule, cams: float, gradients: float) -> dict[str, Any]:
    """Returns the answer to a request; gradients are scaled by the loss scales on the way."""
    request, scores, answer = asked.request, asked.scores, dict(asked.answer)
    if request.cams:
        assert asked.chosen is not None
        assert asked.captured is not None
        gradient = _gradient(scores, asked.captured.edge, cams)
        if gradient is None:
            raise no_influence(asked.chosen.info)
        with torch.no_grad():
            features, above = (_map_of(part.detach(), asked.chosen) for part in (asked.captured.features, gradient))
            answer["cams"] = {name: array_of(formula(features, above)) for name, formula in request.cams.items()}
    if request.gradient:
        answer["gradient"] = _input_gradient(scores, explained, gradients)
    if request.guided_backprop:
        with rule.on():
            answer["guided_backprop"] = _input_gradient(scores, explained, gradients)
    return answer


def _input_gradient(scores: torch.Tensor | None, explained: torch.Tensor, scale: float) -> np.ndarray:
    gradient = _gradient(scores, explained, scale)
    if gradient is None:
        raise no_input_gradient(str(keras.backend.standardize_dtype(explained.dtype)))
    return array_of(gradient)


def _gradient(scores: torch.Tensor | None, edge: Any, scale: float) -> torch.Tensor | None:
    """Differentiates the sum of scores; returns None where that cannot be done.

    Args:
        scores: float32 (N,).
        edge: What to differentiate by.
        scale: A factor of the scores, which is divided out again in float32.
    """
    if scores is None or edge is None or not scores.requires_grad:
        return None
    above = torch.full_like(scores, scale)
    (gradient,) = torch.autograd.grad(scores, [edge], [above], retain_graph=True, allow_unused=True)
    return None if gradient is None else gradient.to(torch.float32) / scale


def _reaches(start: Any, end: Any) -> bool:
    """Returns whether a backward pass that starts at a tensor, or an edge, comes to another, or that one's edge."""
    nodes = [edge for edge in (_node(start), _node(end)) if edge is not None]
    if len(nodes) < 2:
        return False
    first, wanted = nodes
    pending, seen = [first], {first}
    while pending:
        edge = pending.pop()
        if edge == wanted:
            return True
        for following in edge[0].next_functions:
            if following[0] is not None and following not in seen:
                seen.add(following)
                pending.append(following)
    return False


def _node(edge: Any) -> tuple[Any, int] | None:
    """Returns the step of the backward pass that a tensor, or an edge, comes from, and which of its results it is."""
    if isinstance(edge, torch.Tensor):
        edge = torch.autograd.graph.get_gradient_edge(edge) if edge.requires_grad else None
    return None if edge is None else (edge.node, edge.output_nr)


def _array_or_none(leaf: Any) -> np.ndarray | None:
    return None if leaf is None else array_of(leaf)
