"""Runs a model's forward pass: recorded once with one sample, watched in later calls."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import torch

from ...errors import ArgumentError
from ..base import InputSpec, LayerCall, LayerOutput, Outputs, Structure
from ..graphs.activations import Activation, activations
from ..graphs.graph import Value, marked, with_free_batch
from ..graphs.outputs import FoundOutputs, find_outputs, value_of
from ..model import recorded_calls
from ..passes import check_free_batch, takes_floats
from .arrays import tensor_of_array
from .plan import DeviatesError, Plan, Seen, Source, Watcher, plan_of, seen_in, tensor_of
from .recorder import Recorder
from .state import as_found, plain_torch, random_state_kept, weights_of

#: The plans of so many batch sizes that need one of their own are kept.
_PLANS = 8

#: A layer's call: its identity and the number of the call.
Key = tuple[int, int]


class EnoughError(BaseException):
    """Ends a pass that has given all that is wanted. No error of the model's, and not to be caught by it."""


@dataclass(frozen=True, eq=False)
class Captured:
    """What a layer has returned in a pass.

    Attributes:
        features: Its feature map, as part of the pass.
        edge: What to differentiate by; None if nothing can be.
    """

    features: torch.Tensor
    edge: Any


class Capture:
    """Keeps what layers return, in the way that :func:`~keras_gradcam.engine.model.recorded_calls` asks.

    Where nothing is recorded for a backward pass up to there, a leaf to differentiate by takes the output's place.

    Args:
        wanted: The calls, and whether their results are overwritten in place later; None for all calls.
        gradients: Whether to differentiate by what they return.
        is_enough: Whether nothing else is wanted of the pass.

    Attributes:
        captured: What they have returned.
    """

    def __init__(self, wanted: Mapping[Key, bool] | None, gradients: bool = True, is_enough: bool = False) -> None:
        self.captured: dict[Key, Captured] = {}
        self._wanted, self._gradients, self._is_enough = wanted, gradients, is_enough

    def __call__(self, layer_output: LayerOutput) -> Any:
        key, tensor = key_of(layer_output), layer_output.output
        if not isinstance(tensor, torch.Tensor) or (self._wanted is not None and key not in self._wanted):
            return tensor
        is_rewritten = self._wanted is None or self._wanted[key]
        leaf = passed = tensor
        if self._gradients and tensor.is_floating_point() and not tensor.requires_grad:
            leaf = tensor.detach().requires_grad_()
            passed = leaf.clone() if is_rewritten else leaf
        features = leaf.clone() if is_rewritten and self._wanted is not None else leaf
        self.captured[key] = Captured(features, _edge(leaf))
        if self._is_enough and len(self.captured) == len(self._wanted or ()):
            raise EnoughError
        return passed


def _edge(tensor: torch.Tensor) -> Any:
    """Returns what to differentiate by: a tensor's place in the backward pass, whatever is written to it later."""
    if not tensor.requires_grad:
        return None
    return tensor if tensor.grad_fn is None else torch.autograd.graph.get_gradient_edge(tensor)


@dataclass(eq=False)
class Pass:
    """A forward pass.

    Attributes:
        inputs: The model's inputs in flat order, the explained one as floating point.
        structure: What the model returned.
        plan: What operators it ran.
        seen: What was seen of them.
    """

    inputs: list[torch.Tensor]
    structure: Structure
    plan: Plan
    seen: Seen

    def outputs(self) -> Outputs:
        """Returns the outputs as a target takes them."""
        flat = tensors_in(self.structure)

        def tensors(sources: Sequence[Source | None]) -> Structure:
            return self._packed(
                [None if source is None else tensor_of(source, self.seen, self.inputs, flat) for source in sources]
            )

        return Outputs(
            self._packed(flat),
            tensors(self.plan.logits),
            self._packed(self.plan.final_activations),
            tensors(self.plan.pre_normalization),
            self.plan.names,
        )

    def _packed(self, leaves: Sequence[Any]) -> Structure:
        return keras.tree.pack_sequence_as(self.structure, list(leaves))


@dataclass(eq=False)
class Trace(Pass):
    """A forward pass of which all is recorded.

    Attributes:
        recorder: What was recorded.
        layer_outputs: What every layer returned, values of the graph, in the order of the calls.
        values: The model's outputs as values, in flat order.
        found: What was found about them.
        activations: The activations in the model.
        rewritten: The layer calls whose result is overwritten in place later.
    """

    recorder: Recorder = field(default_factory=lambda: Recorder(()))
    layer_outputs: list[LayerOutput] = field(default_factory=list)
    values: list[Value | None] = field(default_factory=list)
    found: FoundOutputs = field(default_factory=lambda: FoundOutputs([], [], []))
    activations: list[Activation] = field(default_factory=list)
    rewritten: frozenset[Key] = frozenset()

    def marked(self, ends: Sequence[Value] | None = None) -> list[LayerOutput]:
        """Returns the layer outputs with what they come from and where they lead to; ``ends`` as in ``marked``."""
        predictions = [value for value in self.values if value is not None]
        logits = [value_of(rebuilt) for rebuilt in self.found.logits if rebuilt is not None]
        return marked(self.recorder.graph, self.layer_outputs, predictions, logits, ends)

    def embeddings(self) -> Outputs:
        """Returns the outputs with values of the graph for what stands before a normalisation."""
        return replace(self.outputs(), pre_normalization=self._packed(self.found.pre_normalization))

    def first_with(self, value: Value) -> Key:
        """Returns the first layer call that returned a value: others return it again, such as a dropout."""
        return next(key_of(layer_output) for layer_output in self.layer_outputs if layer_output.output is value)


def key_of(layer_output: LayerOutput) -> Key:
    """Returns what tells a layer call from others, in any pass."""
    return id(layer_output.layer), layer_output.info.call


def captured_of(captured: Mapping[Key, Captured], key: Key, layer: LayerCall) -> Captured:
    """Returns what a layer has returned in a pass; raises ArgumentError if it was not called."""
    if key not in captured:
        raise ArgumentError(
            "layer",
            "be called for all pictures",
            f"{layer.path!r}, which the model does not call for these: another branch of it is taken",
            "a layer that it always calls",
        )
    return captured[key]


def tensors_in(structure: Structure) -> list[torch.Tensor | None]:
    """Returns the leaves of what a model returned, as tensors."""
    return [None if leaf is None else keras.ops.convert_to_tensor(leaf) for leaf in keras.tree.flatten(structure)]


def samples_of(input_spec: InputSpec, samples: int = 1) -> list[np.ndarray]:
    """Returns inputs for a number of samples: numbers from 0 to 1, zeros where whole numbers are wanted."""
    generator = np.random.default_rng(0)
    return [
        generator.random((samples, *shape)).astype(dtype) if "float" in dtype else np.zeros((samples, *shape), dtype)
        for shape, dtype in input_spec.leaves
    ]


def _rows(tensor: torch.Tensor, count: int) -> torch.Tensor:
    """Returns the first samples of an input, to be differentiated by if that one is."""
    return tensor if count == len(tensor) else tensor[:count].detach().requires_grad_(tensor.requires_grad)


class Forward:
    """Runs the forward passes of one model.

    Args:
        model: The model.
        input_spec: Shapes and dtypes of its inputs.
        device: Where it computes.
        explained: Index of the explained input.
    """

    def __init__(self, model: Any, input_spec: InputSpec, device: torch.device, explained: int = 0) -> None:
        check_free_batch(model, input_spec)
        self.explained = explained
        self._model, self._input_spec, self._device = model, input_spec, device
        self._plans: dict[int, Plan] = {}
        self._lock = threading.Lock()

    def tensors(self, arrays: Sequence[np.ndarray], by_input: bool = False) -> list[torch.Tensor]:
        """Returns the model's inputs as tensors that share no memory with the arrays.

        Args:
            arrays: The inputs in flat order.
            by_input: Whether to differentiate by the explained one.
        """
        tensors = [tensor_of_array(array).to(self._device) for array in arrays]
        explained = tensors[self.explained]
        if not explained.is_floating_point() and takes_floats(self._model, self._input_spec, self.explained):
            explained = tensors[self.explained] = keras.ops.cast(explained, keras.config.floatx())
        if by_input and explained.is_floating_point():
            explained.requires_grad_()
        return tensors

    @contextmanager
    def session(self, gradients: bool = True, by_weights: bool = False) -> Iterator[None]:
        """Lets passes and what is made of them run without a trace; all other methods are called inside of it.

        Args:
            gradients: Whether to record for backward passes.
            by_weights: Whether these lead to weights, too.
        """
        with plain_torch(self._device, gradients), as_found(self._model, by_weights):
            yield

    def traced(self, arrays: Sequence[np.ndarray], change: Callable[[LayerOutput], Any]) -> Trace:
        """Runs the model for the first time and records all of it; takes what :meth:`recorded` takes."""
        trace = self.recorded(self.tensors(arrays, by_input=torch.is_grad_enabled()), change)
        self._plans[len(arrays[0])] = trace.plan
        return trace

    def recorded(self, inputs: list[torch.Tensor], change: Callable[[LayerOutput], Any]) -> Trace:
        """Runs the model and records all of it.

        Args:
            inputs: The model's inputs in flat order.
            change: As in :func:`~keras_gradcam.engine.model.recorded_calls`.
        """
        recorder = Recorder(weights_of(self._model))
        for tensor in inputs:
            recorder.feed(tensor)
        calls: list[tuple[LayerOutput, Any, Value]] = []
        marks: dict[int, int] = {}

        def note(layer_output: LayerOutput) -> Any:
            tensor = layer_output.output
            if not isinstance(tensor, torch.Tensor):
                return tensor
            value = recorder.value(tensor)
            recorder.paused = True
            passed = change(layer_output)
            recorder.paused = False
            if passed is not tensor:
                recorder.same(passed, tensor)
            calls.append((with_free_batch(replace(layer_output, output=value), len(inputs[0])), passed, value))
            if "/" not in layer_output.info.path:
                marks[len(calls)] = len(recorder.operators)
            return passed

        with random_state_kept(self._device, lambda: recorder.draws), recorded_calls(self._model, note), recorder:
            structure = self._call(inputs)
            outputs = [None if leaf is None else recorder.value(leaf) for leaf in tensors_in(structure)]
        found, nonlinear = find_outputs(self._model, outputs), activations(recorder.graph)
        plan = plan_of(recorder, found, outputs, nonlinear, marks)
        return Trace(
            inputs=inputs,
            structure=structure,
            plan=plan,
            seen=seen_in(recorder, plan),
            recorder=recorder,
            layer_outputs=[layer_output for layer_output, _, _ in calls],
            values=outputs,
            found=found,
            activations=nonlinear,
            rewritten=frozenset(key_of(call) for call, tensor, value in calls if recorder.value(tensor) is not value),
        )

    def _call(self, inputs: Sequence[torch.Tensor]) -> Structure:
        return self._model(keras.tree.pack_sequence_as(self._input_spec.structure, list(inputs)), training=False)

    def run(
        self, inputs: list[torch.Tensor], change: Callable[[], Any], *, guided: bool = False, to_the_end: bool = True
    ) -> tuple[Pass, Any]:
        """Runs the model.

        Args:
            inputs: Its inputs in flat order.
            change: Makes a function as in :func:`~keras_gradcam.engine.model.recorded_calls`, anew for each try.
            guided: Whether the guided rule is needed.
            to_the_end: Whether the outputs are wanted; otherwise ``change`` ends the pass.

        Returns:
            The pass, and the function that was made for it.
        """
        for plan in self._candidates(inputs, change):
            used = change()
            with contextlib.suppress(DeviatesError):
                return self._watched(inputs, plan, used, guided, to_the_end), used
        raise ArgumentError(
            "model",
            "run the same operations each time it is called with the same inputs",
            "one that runs others",
            "a model without branches by chance",
        )

    def _candidates(self, inputs: list[torch.Tensor], change: Callable[[], Any]) -> Iterator[Plan]:
        """Yields plans to try for so many samples: one that fitted before, one of two samples, one of all samples."""
        samples = len(inputs[0])
        with self._lock:
            plan = self._plans.get(samples) or next(reversed(self._plans.values()))
        yield self._kept(samples, plan)
        for count in (min(samples, 2), samples):
            plan = self.recorded([_rows(tensor, count) for tensor in inputs], change()).plan
            yield self._kept(samples, plan)

    def _kept(self, samples: int, plan: Plan) -> Plan:
        """Notes that a plan is the one for so many samples, and the last that was used."""
        with self._lock:
            self._plans.pop(samples, None)
            self._plans[samples] = plan
            while len(self._plans) > _PLANS:
                del self._plans[next(iter(self._plans))]
        return plan

    def _watched(self, inputs: list[torch.Tensor], plan: Plan, change: Any, guided: bool, to_the_end: bool) -> Pass:
        """Runs the model as planned; raises DeviatesError if it does otherwise."""
        watcher, structure = Watcher(plan, guided), None
        watches = to_the_end and watcher.is_needed
        count = itertools.count(1)
        with ExitStack() as stack:

            def paused(layer_output: LayerOutput) -> Any:
                watcher.paused = True
                try:
                    return change(layer_output)
                finally:
                    watcher.paused = False
                    if next(count) == watcher.start and watches:
                        stack.enter_context(watcher)

            if plan.draws:
                stack.enter_context(random_state_kept(self._device))
            stack.enter_context(recorded_calls(self._model, paused))
            if watches and watcher.start is None:
                stack.enter_context(watcher)
            with contextlib.suppress(EnoughError):
                structure = self._call(inputs)
            if watches:
                watcher.finish()
        return Pass(inputs, structure, plan, watcher.seen)
