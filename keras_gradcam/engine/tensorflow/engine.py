"""The engine for TensorFlow: one forward pass, two backward passes through it, the model untouched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from ..base import InputSpec, LayerOutput, Request
from .graph import _compiled, _float_inputs, _forward, _marked, _specs, build
from .outputs import _model_outputs
from .program import TensorFlowProgram
from .split import TensorFlowSplit


class TensorFlowEngine:
    """See :class:`keras_gradcam.engine.base.Engine`."""

    def versions(self) -> dict[str, str]:
        return {"keras": keras.__version__, "tensorflow": tf.__version__}

    def start(self) -> None:
        logging.set_verbosity(logging.ERROR)
        tf.get_logger().setLevel("ERROR")
        tf.constant(0)  # the first operation sets up devices and says so

    def build(self, model: Any, input_spec: InputSpec) -> None:
        build(model, input_spec)

    def trace(self, model: Any, input_spec: InputSpec, requests: Sequence[Request]) -> TensorFlowProgram:
        return TensorFlowProgram(model, input_spec, requests)

    def split(self, model: Any, input_spec: InputSpec, request: Request) -> TensorFlowSplit:
        return TensorFlowSplit(model, input_spec, request)

    def layer_calls(self, model: Any, input_spec: InputSpec, samples: int | None = None) -> list[LayerOutput]:
        build(model, input_spec)
        found: list[LayerOutput] = []

        def forward(inputs: Sequence[tf.Tensor]) -> tf.Tensor:
            inputs = _float_inputs(model, input_spec.structure, inputs, explained=0)
            predictions, layer_outputs = _forward(model, tf.nest.pack_sequence_as(input_spec.structure, inputs))
            outputs = _model_outputs(model, predictions)
            found.extend(_marked(layer_outputs, tf.nest.flatten(outputs.predictions), outputs, inputs))
            return tf.constant(0)

        _compiled(forward, [_specs(input_spec, samples)])
        return [
            replace(
                layer_output, info=replace(layer_output.info, output_shape=(None, *layer_output.info.output_shape[1:]))
            )
            if samples is not None and layer_output.info.output_shape[:1] == (samples,)
            else layer_output
            for layer_output in found
        ]
