"""Answers requests in one forward pass, inside of what JAX compiles."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import keras

from ..base import LayerCall, Outputs, Request
from ..graphs.graph import Value
from ..passes import needs_outputs, on_grid, scores_of
from ..places import Layout
from .tracing import Trace, run_again, tensor_of


@dataclass(frozen=True, eq=False)
class Chosen:
    """The layer that a request has chosen.

    Attributes:
        position: Its position among the layer calls of a forward pass.
        info: The layer.
        layout: How its map lies in its output and on the input.
    """

    position: int
    info: LayerCall
    layout: Layout


# Errors of JAX show what is called, and with it all of a plan.
@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """What is asked of a model, and a forward pass of it.

    Attributes:
        requests: What is asked.
        chosen: The layer of each request; None where it needs none.
        trace: The forward pass.
        gates: What guided backpropagation applies to values of the trace, by their ids.
        scaled: Whether scores are scaled while they are differentiated.
    """

    requests: tuple[Request, ...]
    chosen: tuple[Chosen | None, ...]
    trace: Trace
    gates: Mapping[int, Callable[[Any], Any]]
    scaled: bool = False

    def output_of(self, chosen: Chosen) -> Value:
        return self.trace.layer_outputs[chosen.position].output


@functools.partial(jax.tree_util.register_dataclass, data_fields=["layers", "picture"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class _Zeros:
    """Zeros that are added to tensors of a forward pass, to differentiate by them.

    Attributes:
        layers: By the position of a layer call, what is added to its output.
        picture: What is added to the explained input; None for nothing.
    """

    layers: dict[int, Any]
    picture: Any = None


def _forward(
    trace: Trace, inputs: Sequence[Any], weights: Sequence[Any], gates: Mapping[int, Any], zeros: _Zeros
) -> dict[int, Any]:
    """Runs the model; returns the tensor of each value, by its id."""
    tensors: dict[int, Any] = dict(zip(map(id, trace.weights), weights, strict=True))
    added = {id(trace.layer_outputs[position].output): zero for position, zero in zeros.layers.items()}
    if zeros.picture is not None:
        added[id(trace.explained)] = added.get(id(trace.explained), 0) + zeros.picture
    for value, tensor in zip(trace.graph.inputs, inputs, strict=True):
        tensors[id(value)] = tensor + added[id(value)] if id(value) in added else tensor
    run_again(trace.steps, tensors, gates, added)
    return tensors


def answer_all(
    plan: Plan, inputs: Sequence[Any], weights: Sequence[Any], arguments: Sequence[Sequence[Any]], scales: Any
) -> tuple[list[dict[str, Any]], list[Any]]:
    """Answers all requests.

    The guided gradients come from a forward pass of their own, which XLA merges with the other: it is the same.

    Args:
        plan: What is asked, and of what.
        inputs: The model's inputs in flat order.
        weights: The current values of ``plan.trace.variables``.
        arguments: For each request, the arguments of its target.
        scales: float32 (2,), the loss scales of CAMs and of gradients of the input.

    Returns:
        The answers; the model's outputs in flat order, without those that are None, if they are needed.
    """
    trace = plan.trace
    # Where the scale is the same number, XLA merges backward passes of the same score.
    of_maps, of_pictures = scales if plan.scaled else (1.0, 1.0)

    def run(zeros: _Zeros, gates: Mapping[int, Any]) -> tuple[list[Any], Any]:
        tensors = _forward(trace, inputs, weights, gates, zeros)
        outputs = trace.outputs(lambda value: tensor_of(value, tensors))
        samples = trace.graph.inputs[0].shape[0]
        scores = [
            None if request.target is None else scores_of(request.target, outputs, given, samples)
            for request, given in zip(plan.requests, arguments, strict=True)
        ]
        answers = [
            _without_gradient(request, outputs, given) for request, given in zip(plan.requests, arguments, strict=True)
        ]
        features = [None if chosen is None else tensor_of(plan.output_of(chosen), tensors) for chosen in plan.chosen]
        return scores, (
            answers,
            features,
            [leaf for leaf in keras.tree.flatten(outputs.predictions) if leaf is not None],
        )

    mapped = {
        chosen.position: _zeros_like(plan.output_of(chosen))
        for request, chosen in zip(plan.requests, plan.chosen, strict=True)
        if chosen is not None and request.cams
    }
    by_picture = any(request.gradient for request in plan.requests)
    zeros = _Zeros(mapped, _zeros_like(trace.explained) if by_picture else None)
    scores, pull, (answers, features, returned) = jax.vjp(functools.partial(run, gates={}), zeros, has_aux=True)
    pull_guided = None
    if any(request.guided_backprop for request in plan.requests):
        picture = _Zeros({}, _zeros_like(trace.explained))
        _, pull_guided, _ = jax.vjp(functools.partial(run, gates=plan.gates), picture, has_aux=True)
    for index, (request, chosen, answer) in enumerate(zip(plan.requests, plan.chosen, answers, strict=True)):
        if request.target is not None:
            answer["scores"] = scores[index]
        if chosen is not None:
            _add_maps(answer, request, chosen, features[index], _by(pull, scores, index, of_maps))
        if request.gradient:
            answer["gradient"] = _by(pull, scores, index, of_pictures)().picture
        if request.guided_backprop:
            answer["guided_backprop"] = _by(pull_guided, scores, index, of_pictures)().picture
    return answers, returned if needs_outputs(plan.requests) else []


def _without_gradient(request: Request, outputs: Outputs, arguments: Sequence[Any]) -> dict[str, Any]:
    """Returns the part of an answer that needs no gradient."""
    answer: dict[str, Any] = {}
    if request.target is not None:
        classes = request.target.classes(outputs, arguments)
        if classes is not None:
            answer["classes"] = classes
        if request.resolved_arguments:
            answer["arguments"] = request.target.resolve_arguments(outputs, arguments)
    return answer


def _by(pull: Any, scores: Sequence[Any], index: int, scale: Any) -> Callable[[], _Zeros]:
    """Returns a function that gives the gradients, in float32, of the sum of one request's scores."""

    def gradients() -> _Zeros:
        above = [
            None if score is None else jnp.full_like(score, scale if position == index else 0)
            for position, score in enumerate(scores)
        ]
        (gradient,) = pull(above)
        return jax.tree.map(lambda array: array.astype("float32") / scale, gradient)

    return gradients


def _add_maps(
    answer: dict[str, Any], request: Request, chosen: Chosen, output: Any, gradients: Callable[[], _Zeros]
) -> None:
    """Adds the feature map and the CAMs of a request's layer to its answer."""
    features = on_grid(output.astype("float32"), chosen.layout)
    if request.features:
        answer["features"] = features
    if request.cams:
        gradient = on_grid(gradients().layers[chosen.position], chosen.layout)
        answer["cams"] = {name: formula(features, gradient) for name, formula in request.cams.items()}


def cell_gradients(
    plan: Plan, request: int, inputs: Sequence[Any], weights: Sequence[Any], positions: Any
) -> tuple[Any, Any, Any]:
    """Differentiates one cell of the map of each sample, its channels added up, by the explained input.

    Args:
        plan: What is asked, and of what.
        request: The request whose layer's map it is.
        inputs: The model's inputs in flat order.
        weights: The current values of ``plan.trace.variables``.
        positions: float (N, axes), where the cells lie, as shares of the extents of the map.

    Returns:
        The feature map, the gradients and the cells, int (N, axes).
    """
    chosen = plan.chosen[request]
    assert chosen is not None

    def run(picture: Any) -> Any:
        tensors = _forward(plan.trace, inputs, weights, {}, _Zeros({}, picture))
        return on_grid(tensor_of(plan.output_of(chosen), tensors).astype("float32"), chosen.layout)

    features, pull = jax.vjp(run, _zeros_like(plan.trace.explained))
    cells = (positions * jnp.array(features.shape[1:-1])).astype("int32")
    rows = jnp.arange(min(len(cells), len(features)))
    selector = jnp.zeros_like(features).at[(rows, *cells[: len(rows)].T)].set(1)
    return features, pull(selector)[0].astype("float32"), cells


def _zeros_like(value: Value) -> Any:
    return jnp.zeros(value.shape, value.dtype)
