"""The engine for JAX: a traced forward pass that is run again, twice where guided, merged by XLA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras

from ..base import InputSpec, LayerOutput, ReceptiveBoxes, Request
from ..graphs.extents import common_shape, with_extents
from ..graphs.graph import with_free_batch
from ..graphs.receptive_field import receptive_boxes
from ..passes import build
from .processes import is_first_process
from .program import JaxProgram
from .split import JaxSplit
from .tracing import trace_forward

# An unusual batch size, so that the batch axis cannot be mistaken for another.
_SAMPLES = 13


class JaxEngine:
    """See :class:`keras_gradcam.engine.base.Engine`."""

    def versions(self) -> dict[str, str]:
        return {"keras": keras.__version__, "jax": jax.__version__}

    def is_first_process(self) -> bool:
        return is_first_process()

    def start(self) -> None:
        jnp.zeros(()).block_until_ready()  # the first operation sets up devices and says so

    def build(self, model: Any, input_spec: InputSpec) -> None:
        build(model, input_spec)

    def trace(self, model: Any, input_spec: InputSpec, requests: Sequence[Request]) -> JaxProgram:
        return JaxProgram(model, input_spec, requests)

    def split(self, model: Any, input_spec: InputSpec, request: Request) -> JaxSplit:
        return JaxSplit(model, input_spec, request)

    def layer_calls(self, model: Any, input_spec: InputSpec, samples: int | None = None) -> list[LayerOutput]:
        build(model, input_spec)
        count = _SAMPLES if samples is None else samples
        first, *others = (trace_forward(model, spec, count).marked() for spec in with_extents(input_spec))
        outputs = [common_shape(*calls) for calls in zip(first, *others, strict=True)]
        return [with_free_batch(layer_output, count) for layer_output in outputs]

    def receptive_field(
        self, model: Any, input_spec: InputSpec, request: Request, gates: bool = True
    ) -> ReceptiveBoxes:
        build(model, input_spec)
        trace = trace_forward(model, input_spec, 1, request.explained_input)
        selected = request.select(trace.marked())
        return receptive_boxes(trace.graph, selected, input_spec, request.explained_input, gates)
