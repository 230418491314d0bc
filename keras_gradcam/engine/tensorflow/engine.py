"""The engine for TensorFlow: one forward pass, two backward passes through it, the model untouched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from ..base import InputSpec, LayerOutput, ReceptiveBoxes, Request
from ..graphs.graph import Graph, with_free_batch
from ..graphs.receptive_field import receptive_boxes
from ..passes import build
from .graph import input_specs, trace_forward
from .processes import is_first_process
from .program import TensorFlowProgram
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

        tf.compat.v1.wrap_function(forward, [input_specs(input_spec, samples)])
        return layer_outputs if samples is None else [with_free_batch(output, samples) for output in layer_outputs]

    def receptive_field(
        self, model: Any, input_spec: InputSpec, request: Request, gates: bool = True
    ) -> ReceptiveBoxes:
        build(model, input_spec)
        found: list[tuple[Graph, LayerOutput]] = []

        def forward(inputs: Sequence[tf.Tensor]) -> tf.Tensor:
            trace = trace_forward(model, input_spec, inputs, request.explained_input)
            selected = request.select(trace.marked())
            value = trace.translation.value(selected.output)
            found.append((trace.translation.graph(inputs), replace(selected, output=value)))
            return tf.constant(0)

        tf.compat.v1.wrap_function(forward, [input_specs(input_spec, samples=1)])
        return receptive_boxes(*found[0], input_spec, request.explained_input, gates)
