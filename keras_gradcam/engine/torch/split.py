"""Runs a model cut in two at a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base import InputSpec, LayerCall, LayerOutput, Request
from ..graphs.graph import ancestors
from ..graphs.placement import PlaceReader, layout_of
from ..passes import build, check_batch, passed_by, shapes_of
from ..places import Layout
from .arrays import float32_of, tensor_of_array
from .forward import Capture, Forward, Key, Pass, captured_of, key_of, samples_of
from .state import device_of


class TorchSplit:
    """A model cut at a layer; see :class:`keras_gradcam.engine.base.Split`.

    The second half is the whole model with other features in place of what the layer returns. What comes before the
    layer has no influence then, and runs on a single sample of nothing.
    """

    layer: LayerCall
    layout: Layout

    def __init__(self, model: Any, input_spec: InputSpec, request: Request) -> None:
        assert request.target is not None
        self._target, self._input_spec = request.target, input_spec
        build(model, input_spec)
        self._forward = Forward(model, input_spec, device_of(model), request.explained_input)
        with self._forward.session(gradients=False):
            trace = self._forward.traced(samples_of(input_spec), Capture(None, gradients=False))
            self._target.check(shapes_of(trace.outputs()))
            embedding = self._target.select_output(trace.embeddings()).pre_normalization
            selected = request.select(trace.marked([embedding]))
            explained = trace.inputs[request.explained_input]
            size = tuple(explained.shape[1:])
            self.layout = layout_of(selected, PlaceReader.of_input(trace.recorder.value(explained), size), size)
            if ancestors([embedding], without=selected.output) & set(map(id, trace.recorder.graph.inputs)):
                raise passed_by(selected.info)
        self.layer = selected.info
        self._key: Key = trace.first_with(selected.output)
        self._is_rewritten = self._key in trace.rewritten

    def body(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        with self._forward.session(gradients=False):
            wanted = {self._key: self._is_rewritten}
            run, capture = self._forward.run(self._forward.tensors(inputs), lambda: Capture(wanted, gradients=False))
            features = captured_of(capture.captured, self._key, self.layer).features
            check_batch(self.layer, len(features), len(inputs[0]))
            return float32_of(features), self._embedding(run)

    def head(self, features: np.ndarray) -> np.ndarray:
        with self._forward.session(gradients=False):
            for rows in (1, len(features)):
                inputs = self._forward.tensors(samples_of(self._input_spec, rows))
                try:
                    run, _ = self._forward.run(inputs, lambda: self._instead(features))
                    embedding = self._embedding(run)
                except (RuntimeError, ValueError, IndexError):
                    # A model that shapes what comes after the layer by the number of its inputs.
                    if rows == len(features):
                        raise
                    continue
                if len(embedding) == len(features):
                    break
        return embedding

    def _instead(self, features: np.ndarray) -> Any:
        """Returns what gives the model features in place of what the layer returns."""

        def change(layer_output: LayerOutput) -> Any:
            tensor = layer_output.output
            if key_of(layer_output) != self._key:
                return tensor
            return tensor_of_array(features).to(tensor.device, tensor.dtype)

        return change

    def _embedding(self, run: Pass) -> np.ndarray:
        return float32_of(self._target.select_output(run.outputs()).pre_normalization)
