"""The engine for PyTorch: the model runs as it is, and what its operators compute is read off as they are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import torch
from torch._subclasses import FakeTensorMode

from ..base import InputSpec, LayerOutput, ReceptiveBoxes, Request
from ..graphs.extents import common_shape, with_extents
from ..graphs.receptive_field import receptive_boxes
from ..passes import build
from .forward import Capture, Forward, Trace, samples_of
from .processes import is_first_process
from .program import TorchProgram
from .split import TorchSplit
from .state import attributes_kept, device_of

# An unusual batch size, so that the batch axis cannot be mistaken for another.
_SAMPLES = 13


class TorchEngine:
    """See :class:`keras_gradcam.engine.base.Engine`."""

    def versions(self) -> dict[str, str]:
        return {"keras": keras.__version__, "torch": torch.__version__}

    def is_first_process(self) -> bool:
        return is_first_process()

    def start(self) -> None:
        keras.ops.zeros(())  # the first operation sets up devices

    def build(self, model: Any, input_spec: InputSpec) -> None:
        build(model, input_spec)

    def trace(self, model: Any, input_spec: InputSpec, requests: Sequence[Request]) -> TorchProgram:
        return TorchProgram(model, input_spec, requests)

    def split(self, model: Any, input_spec: InputSpec, request: Request) -> TorchSplit:
        return TorchSplit(model, input_spec, request)

    def layer_calls(self, model: Any, input_spec: InputSpec, samples: int | None = None) -> list[LayerOutput]:
        build(model, input_spec)
        count = _SAMPLES if samples is None else samples
        first, *others = (
            (_shapes_alone(model, spec, count) or _traced(model, spec, count)).marked()
            for spec in with_extents(input_spec)
        )
        return [common_shape(*calls) for calls in zip(first, *others, strict=True)]

    def receptive_field(
        self, model: Any, input_spec: InputSpec, request: Request, gates: bool = True
    ) -> ReceptiveBoxes:
        build(model, input_spec)
        trace = _traced(model, input_spec, 1, request.explained_input)
        selected = request.select(trace.marked())
        return receptive_boxes(trace.recorder.graph, selected, input_spec, request.explained_input, gates)


def _traced(model: Any, input_spec: InputSpec, samples: int, explained: int = 0) -> Trace:
    """Runs a model and records it."""
    forward = Forward(model, input_spec, device_of(model), explained)
    with forward.session(gradients=False):
        return forward.traced(samples_of(input_spec, samples), Capture(None, gradients=False))


def _shapes_alone(model: Any, input_spec: InputSpec, samples: int) -> Trace | None:
    """Records a model without computing anything; returns None if it needs numbers to run."""
    try:
        with attributes_kept(model), FakeTensorMode(allow_non_fake_inputs=True):
            return _traced(model, input_spec, samples)
    except Exception:
        return None
