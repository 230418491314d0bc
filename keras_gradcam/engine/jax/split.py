"""Compiles a model cut in two at a layer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ..base import InputSpec, LayerCall, Request
from ..graphs.graph import Value, ancestors, with_free_batch
from ..graphs.placement import PlaceReader, layout_of
from ..passes import build, check_batch, passed_by, shapes_of
from ..places import Layout
from .tracing import Trace, current_weights, needed_steps, run_again, tensor_of, trace_forward


class JaxSplit:
    """A compiled model cut at a layer; see :class:`keras_gradcam.engine.base.Split`."""

    layer: LayerCall
    layout: Layout

    def __init__(self, model: Any, input_spec: InputSpec, request: Request) -> None:
        build(model, input_spec)
        self._model, self._input_spec, self._request = model, input_spec, request
        self._compiled: dict[tuple[str, int], tuple[list[Any], Callable[..., Any]]] = {}
        self._lock = threading.RLock()
        trace = self._trace(samples=1)
        assert request.target is not None
        request.target.check(shapes_of(trace.output_shapes()))
        embedding = self._embedding(trace)
        selected = request.select(trace.marked([embedding]))
        outputs = [layer_output.output for layer_output in trace.layer_outputs]
        self._position = next(index for index, output in enumerate(outputs) if output is selected.output)
        self.layer = with_free_batch(selected, 1).info
        size = trace.explained.shape[1:]
        self.layout = layout_of(selected, PlaceReader.of_input(trace.explained, size), size)
        if ancestors([embedding], without=selected.output) & {id(value) for value in trace.graph.inputs}:
            raise passed_by(self.layer)

    def _trace(self, samples: int) -> Trace:
        return trace_forward(self._model, self._input_spec, samples, self._request.explained_input)

    def _embedding(self, trace: Trace) -> Value:
        """Returns the embedding before any normalisation of the output that the target looks at."""
        assert self._request.target is not None
        return self._request.target.select_output(trace.output_values()).pre_normalization

    def body(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        features, embedding = self._run("body", len(inputs[0]), list(inputs))
        check_batch(self.layer, len(features), len(inputs[0]))
        return features, embedding

    def head(self, features: np.ndarray) -> np.ndarray:
        (embedding,) = self._run("head", len(features), [features])
        return embedding

    def _run(self, half: str, samples: int, given: list[Any]) -> list[np.ndarray]:
        """Runs one half of the model, which is compiled for each number of samples."""
        with self._lock:
            if (half, samples) not in self._compiled:
                self._compiled[half, samples] = self._function(half, self._trace(samples))
            variables, run = self._compiled[half, samples]
        return [np.array(result) for result in run(given, current_weights(variables))]

    def _function(self, half: str, trace: Trace) -> tuple[list[Any], Callable[..., Any]]:
        """Returns the variables that one half of a forward pass reads, and the half as a compiled function."""
        features, embedding = trace.layer_outputs[self._position].output, self._embedding(trace)
        is_body = half == "body"
        starts = trace.graph.inputs if is_body else [features]
        ends = [features, embedding] if is_body else [embedding]
        steps = trace.steps if is_body else needed_steps(trace.steps, embedding, features)

        def run(given: Sequence[Any], weights: Sequence[Any]) -> list[Any]:
            tensors = dict(zip(map(id, trace.weights), weights, strict=True))
            tensors.update((id(value), tensor.astype(value.dtype)) for value, tensor in zip(starts, given, strict=True))
            run_again(steps, tensors, {}, {})
            return [tensor_of(value, tensors).astype("float32") for value in ends]

        return trace.variables, jax.jit(run)
