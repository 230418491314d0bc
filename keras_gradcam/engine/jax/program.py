"""Compiles a model with the maps that are wanted of it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from ...grids import Placement
from ..base import ForwardResult, InputSpec, LayerCall, Outputs, Request
from ..graphs.activations import activations, guided_coverage
from ..graphs.graph import Value, ancestors, with_free_batch
from ..graphs.placement import PlaceReader, layout_of
from ..passes import (
    build,
    check_batch,
    computes_in_float16,
    in_loss_scales,
    needs_outputs,
    no_influence,
    no_input_gradient,
    results_of,
    shapes_of,
)
from ..places import Layout, Lost
from .answers import Chosen, Plan, answer_all, cell_gradients
from .guided import gates
from .tracing import Trace, current_weights, trace_forward


class JaxProgram:
    """A compiled model with some requests; see :class:`keras_gradcam.engine.base.Program`.

    JAX compiles it once for each batch size. Weights are arguments: that they change compiles nothing anew.
    """

    def __init__(self, model: Any, input_spec: InputSpec, requests: Sequence[Request]) -> None:
        self._model, self._input_spec, self._requests = model, input_spec, tuple(requests)
        build(model, input_spec)
        self._half = computes_in_float16(model)
        self._compiled: dict[Any, tuple[list[Any], Callable[..., Any]]] = {}
        self._lock = threading.RLock()
        trace = self._trace(samples=1)
        self.guided_coverage = replace(guided_coverage(activations(trace.graph)), unreached=trace.unreached)
        self.outputs: Outputs = shapes_of(trace.output_shapes())
        reader = PlaceReader.of_input(trace.explained, trace.explained.shape[1:])
        self._chosen = tuple(self._choose(request, trace, reader) for request in requests)
        self.layers: tuple[LayerCall | None, ...] = tuple(
            None if chosen is None else chosen.info for chosen in self._chosen
        )
        self.layouts: tuple[Layout | None, ...] = tuple(
            None if chosen is None else chosen.layout for chosen in self._chosen
        )

    def _trace(self, samples: int) -> Trace:
        return trace_forward(self._model, self._input_spec, samples, self._requests[0].explained_input)

    def _choose(self, request: Request, trace: Trace, reader: PlaceReader) -> Chosen | None:
        """Checks a request on a trace of one sample; returns the layer that it chooses, if it needs one."""
        ends = None
        if request.target is not None:
            request.target.check(self.outputs)
            ends = [trace.score_of(request)]
        chosen = self._layer_of(request, trace, reader, ends) if request.cams or request.features else None
        reaches = _is_float(trace.explained) and id(trace.explained) in ancestors(ends or [])
        if (request.gradient or request.guided_backprop) and not reaches:
            raise no_input_gradient(trace.explained.dtype)
        return chosen

    def _layer_of(self, request: Request, trace: Trace, reader: PlaceReader, ends: Sequence[Value] | None) -> Chosen:
        """Returns the layer that a request chooses."""
        selected = request.select(trace.marked(ends))
        if request.cams and not selected.influences_score:
            raise no_influence(selected.info)
        layout = layout_of(selected, reader, trace.explained.shape[1:], trace.layer_outputs)
        if isinstance(layout.placement, Lost) and not _is_float(trace.explained):
            # Of an input of whole numbers, such as those of words, nothing can be checked.
            layout = replace(layout, placement=Placement.whole(len(layout.grid)))
        outputs = [layer_output.output for layer_output in trace.layer_outputs]
        position = next(index for index, output in enumerate(outputs) if output is selected.output)
        return Chosen(position, with_free_batch(selected, 1).info, layout)

    def __call__(self, inputs: Sequence[np.ndarray], arguments: Sequence[Sequence[np.ndarray]]) -> list[ForwardResult]:
        samples = len(inputs[0])
        variables, run = self._function(samples, "answers", answer_all)
        returned: list[Any] = []

        def once(cams: float, gradients: float) -> list[dict[str, Any]]:
            scales = np.array([cams, gradients], "float32")
            answers, leaves = run(
                list(inputs), current_weights(variables), [list(arrays) for arrays in arguments], scales
            )
            returned[:] = leaves
            return jax.tree.map(np.array, answers)

        answers = in_loss_scales(once, self._half)
        predictions = None
        if needs_outputs(self._requests):
            leaves = map(np.array, returned)
            structure = self.outputs.predictions
            flat = [None if leaf is None else next(leaves) for leaf in keras.tree.flatten(structure)]
            predictions = keras.tree.pack_sequence_as(structure, flat)
        return results_of(predictions, answers, self.layers, samples)

    def cell_gradients(
        self, request: int, inputs: Sequence[np.ndarray], positions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        pictures = [np.repeat(array, len(positions), axis=0) for array in inputs]
        variables, run = self._function(len(positions), ("cells", request), _cells_of(request))
        features, gradients, cells = run(pictures, current_weights(variables), positions)
        check_batch(self.layers[request], len(features), len(positions))
        return np.array(gradients), np.array(cells), tuple(features.shape[1:-1])

    def _function(self, samples: int, name: Any, function: Callable[..., Any]) -> tuple[list[Any], Callable[..., Any]]:
        """Returns a compiled function of a plan for a batch size, and the variables that it takes.

        Args:
            samples: The batch size.
            name: What it is kept under.
            function: A function of a plan, inputs and weights.
        """
        with self._lock:
            if (name, samples) not in self._compiled:
                trace = self._trace(samples)
                plan = Plan(self._requests, self._chosen, trace, gates(activations(trace.graph)), self._half)
                self._compiled[name, samples] = trace.variables, jax.jit(functools.partial(function, plan))
            return self._compiled[name, samples]


def _cells_of(request: int) -> Callable[..., Any]:
    def run(plan: Plan, inputs: Any, weights: Any, positions: Any) -> Any:
        return cell_gradients(plan, request, inputs, weights, positions)

    return run


def _is_float(value: Value) -> bool:
    return jnp.issubdtype(np.dtype(value.dtype), jnp.floating)
