"""The engine for TensorFlow: one forward pass, two backward passes through it, the model untouched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from ..base import InputSpec, LayerOutput, ReceptiveBoxes, Request
from ..passes import build
from .graph import compile_function, input_specs, trace_forward
from .processes import is_first_process
from .program import TensorFlowProgram
from .receptive_field import receptive_boxes
from .split import TensorFlowSplit


class TensorFlowEngine:
    """See :class:`keras_gradcam.engine.base.Engine`."""

    def versions(self) -> dict[str, str]:
        return {"keras": keras.__version__, "tensorflow": tf.__version__}

    def is_first_process(self) -> bool:
        return is_first_process()

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
        layer_outputs: list[LayerOutput] = []

        def forward(inputs: Sequence[tf.Tensor]) -> tf.Tensor:
            layer_outputs.extend(trace_forward(model, input_spec, inputs).marked())
            return tf.constant(0)

        compile_function(forward, [input_specs(input_spec, samples)])
        return layer_outputs if samples is None else [_with_free_batch(output, samples) for output in layer_outputs]

    def receptive_field(
        self, model: Any, input_spec: InputSpec, request: Request, gates: bool = True
    ) -> ReceptiveBoxes:
        return receptive_boxes(model, input_spec, request, gates)


def _with_free_batch(layer_output: LayerOutput, samples: int) -> LayerOutput:
    """Returns the layer output with None for the batch, if that is the one the model was traced with."""
    shape = layer_output.info.output_shape
    if shape[:1] != (samples,):
        return layer_output
    return replace(layer_output, info=replace(layer_output.info, output_shape=(None, *shape[1:])))
