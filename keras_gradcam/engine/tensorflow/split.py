"""Compiles a model cut in two at a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ...errors import ArgumentError
from ..base import InputSpec, LayerCall, Request
from ..passes import check_batch
from ..places import Layout
from .graph import ancestors, input_specs, prune, trace_forward
from .outputs import shapes_of
from .placement import PlaceReader, layout_of


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
            explained = trace.inputs[request.explained_input]
            self.layout = layout_of(
                layer_output, PlaceReader.of_input(explained, explained.shape[1:]), explained.shape[1:]
            )
            if ancestors([embedding], without=layer_output.output).intersection(map(id, trace.inputs)):
                raise ArgumentError(
                    "layer",
                    "be one through which all goes from the pictures to the embedding",
                    f"{layer_output.info.path!r}, which a branch of the model passes by",
                    "a layer after the branches have joined; form='gradient'",
                )
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
