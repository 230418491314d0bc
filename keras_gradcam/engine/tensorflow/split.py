"""Compiles a model cut in two at a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ..base import InputSpec, LayerCall, Request
from ..graphs.graph import ancestors
from ..passes import check_batch, passed_by, shapes_of
from ..places import Layout
from .graph import input_specs, prune, trace_forward


class TensorFlowSplit:
    """A compiled model cut at a layer; see :class:`keras_gradcam.engine.base.Split`."""

    layer: LayerCall
    layout: Layout

    def __init__(self, model: Any, input_spec: InputSpec, request: Request) -> None:
        def forward(inputs: Sequence[tf.Tensor]) -> dict[str, Any]:
            trace = trace_forward(model, input_spec, inputs, request.explained_input)
            assert request.target is not None
            request.target.check(shapes_of(trace.outputs))
            embedding = request.target.select_output(trace.outputs).pre_normalization
            layer_output = request.select(trace.marked([embedding]))
            self.layer = layer_output.info
            explained = request.explained_input
            self.layout = trace.layout(layer_output, trace.reader(explained), explained)
            value = trace.translation.value
            past = ancestors([value(embedding)], without=value(layer_output.output))
            if past.intersection(id(value(tensor)) for tensor in trace.inputs):
                raise passed_by(layer_output.info)
            return {"features": layer_output.output, "embedding": embedding}

        traced = tf.compat.v1.wrap_function(forward, [input_specs(input_spec)])
        ends = traced.structured_outputs
        self._body = prune(traced, traced.inputs[: len(input_spec.leaves)], [ends["features"], ends["embedding"]])
        self._head = prune(traced, [ends["features"]], [ends["embedding"]])
        self._dtype = ends["features"].dtype

    def body(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        features, embedding = self._body(*(tf.convert_to_tensor(array) for array in inputs))
        check_batch(self.layer, len(features), len(inputs[0]))
        return _float32(features), _float32(embedding)

    def head(self, features: np.ndarray) -> np.ndarray:
        (embedding,) = self._head(tf.cast(features, self._dtype))
        return _float32(embedding)


def _float32(tensor: tf.Tensor) -> np.ndarray:
    return tf.cast(tensor, tf.float32).numpy()
