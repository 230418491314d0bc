"""What of the operators that a model runs is needed in later calls, and a mode that watches out for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..graphs.activations import Activation
from ..graphs.graph import Value
from ..graphs.outputs import FoundOutputs, Rebuilt, Repeated
from .calls import Call, Slot, flat_tensors
from .recorder import DETACH, Recorder


@dataclass(frozen=True)
class OfInput:
    """One of the model's inputs, by its index."""

    index: int


@dataclass(frozen=True)
class OfOutput:
    """One of the model's outputs, by its index in flat order."""

    index: int


@dataclass(frozen=True)
class OfOperator:
    """A result of the operator with this number."""

    number: int
    position: int


@dataclass(frozen=True)
class Again:
    """A result of the operator with this number, if it is called with other tensors in some slots."""

    number: int
    position: int
    sources: tuple[tuple[Slot, Source], ...]


#: Where a tensor comes from in any pass that runs the operators of a plan.
Source = OfInput | OfOutput | OfOperator | Again


@dataclass(eq=False)
class Seen:
    """What was seen of the operators of a pass, by their number.

    Attributes:
        results: Their results.
        calls: Their calls.
        nodes: For operators that complete a rectifier, the step of the backward pass, and which of its results.
    """

    results: dict[int, list[torch.Tensor]] = field(default_factory=dict)
    calls: dict[int, Call] = field(default_factory=dict)
    nodes: dict[int, tuple[Any, int]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Plan:
    """The operators that a forward pass runs, and which of them are needed.

    Attributes:
        operators: All of them, in their order.
        logits: Where the scores before the activations that the outputs end in come from.
        pre_normalization: Where the embeddings before normalisations come from.
        final_activations: The names of those activations.
        names: The names of the outputs.
        rectifiers: The numbers of operators that complete a rectifier, and its sign.
        draws: Whether random numbers are drawn from the global generator.
        marks: How many operators have run when the model's own layers return, by the position of the layer call.
    """

    operators: list[Any]
    logits: list[Source | None]
    pre_normalization: list[Source | None]
    final_activations: list[str]
    names: tuple[str, ...]
    rectifiers: dict[int, int]
    draws: bool
    marks: dict[int, int] = field(default_factory=dict)

    def wanted(self) -> tuple[set[int], set[int]]:
        """Returns the numbers of the operators whose results, and of those whose calls, are needed."""
        results: set[int] = set()
        calls: set[int] = set()
        pending = [source for source in (*self.logits, *self.pre_normalization) if source is not None]
        while pending:
            source = pending.pop()
            if isinstance(source, OfOperator):
                results.add(source.number)
            elif isinstance(source, Again):
                calls.add(source.number)
                pending.extend(part for _, part in source.sources)
        return results, calls


def plan_of(
    recorder: Recorder,
    found: FoundOutputs,
    outputs: Sequence[Value | None],
    activations: Sequence[Activation],
    marks: dict[int, int],
) -> Plan:
    """Returns the plan for passes like the one that was recorded.

    Args:
        recorder: What was recorded.
        found: What was found about the outputs.
        outputs: Their values in flat order.
        activations: The activations of the model.
        marks: See :class:`Plan`.
    """
    own = [None if value is None else OfOutput(index) for index, value in enumerate(outputs)]
    # Over scores that an activation has overwritten in place nothing can be said any more.
    logits = [_source(rebuilt, recorder, outputs) or known for rebuilt, known in zip(found.logits, own, strict=True)]
    before = [
        _source(value, recorder, outputs) or known for value, known in zip(found.pre_normalization, own, strict=True)
    ]
    final_activations = [
        "probabilities" if name and source == known and rebuilt is not value and name in _SCORED else name
        for name, source, known, rebuilt, value in zip(
            found.final_activations, logits, own, found.logits, outputs, strict=True
        )
    ]
    rectifiers = {}
    for activation in activations:
        call = recorder.call_of(activation.operation)
        if activation.kind == "rectifier" and call is not None:
            rectifiers[call[0]] = activation.sign
    operators, draws = list(recorder.operators), recorder.draws
    return Plan(operators, logits, before, final_activations, found.names, rectifiers, draws, marks)


_SCORED = {"softmax", "log_softmax", "sigmoid"}


def _source(rebuilt: Rebuilt | None, recorder: Recorder, outputs: Sequence[Value | None]) -> Source | None:
    """Returns where a tensor comes from; None if that cannot be said."""
    if rebuilt is None:
        return None
    if isinstance(rebuilt, Repeated):
        return _again(rebuilt, recorder, outputs)
    for index, value in enumerate(outputs):
        if value is rebuilt:
            return OfOutput(index)
    for index, value in enumerate(recorder.graph.inputs):
        if value is rebuilt:
            return OfInput(index)
    place = recorder.place_of(rebuilt)
    return None if place is None else OfOperator(*place)


def _again(rebuilt: Repeated, recorder: Recorder, outputs: Sequence[Value | None]) -> Source | None:
    call = recorder.call_of(rebuilt.operation)
    if call is None:
        return None
    slots, inputs = rebuilt.operation.parameters["slots"], rebuilt.operation.inputs
    sources: list[tuple[Slot, Source]] = []
    for slot, own, part in zip(slots, inputs, rebuilt.inputs, strict=True):
        if part is own:
            continue
        source = _source(part, recorder, outputs)
        if source is None:
            return None
        sources.append((slot, source))
    return Again(call[0], rebuilt.position, tuple(sources))


def tensor_of(source: Source, seen: Seen, inputs: Sequence[torch.Tensor], outputs: Sequence[Any]) -> torch.Tensor:
    """Returns the tensor that comes from a source in a pass."""
    if isinstance(source, OfInput):
        return inputs[source.index]
    if isinstance(source, OfOutput):
        return outputs[source.index]
    if isinstance(source, OfOperator):
        return seen.results[source.number][source.position]
    call, given = seen.calls[source.number], dict(source.sources)
    slots = call.slots()
    tensors = [tensor_of(given[slot], seen, inputs, outputs) if slot in given else call.get(slot) for slot in slots]
    return flat_tensors(call.again(slots)(*tensors))[source.position]


class DeviatesError(BaseException):
    """Ends a pass that runs other operators than planned. No error of the model's, and not to be caught by it."""


class Watcher(TorchDispatchMode):
    """Sees to it that the operators of a plan are run, and keeps what is needed of them.

    Args:
        plan: The plan.
        guided: Whether rectifiers are needed.

    Attributes:
        seen: What is kept.
        paused: Whether operators are not the model's at the moment.
        start: Position of the layer call after which there is something to watch; None for the beginning.
        is_needed: Whether there is anything to watch at all.
    """

    def __init__(self, plan: Plan, guided: bool) -> None:
        super().__init__()
        self.seen = Seen()
        self.paused = False
        self._operators = plan.operators
        self._results, self._calls = plan.wanted()
        self._rectifiers = plan.rectifiers if guided else {}
        # There might be a rectifier anywhere that was not there when the plan was made.
        first = 0 if guided else min((*self._results, *self._calls), default=None)
        self.is_needed = first is not None
        passed = {number: position for position, number in plan.marks.items() if 0 < number <= (first or 0)}
        self._number = max(passed, default=0)
        self.start = passed.get(self._number)
        self._last: tuple[int, torch.Tensor] | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing of this is compiled, and asking PyTorch not to do so costs time at every operator.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        if func is DETACH or self.paused:
            return func(*args, **kwargs) if kwargs else func(*args)
        if self._last is not None:
            self._note_node()
        number = self._number
        self._number = number + 1
        if number >= len(self._operators) or self._operators[number] is not func:
            raise DeviatesError
        result = func(*args, **kwargs) if kwargs else func(*args)
        if number in self._rectifiers:
            self._last = number, result
        if number in self._results:
            self.seen.results[number] = flat_tensors(result)
        if number in self._calls:
            self.seen.calls[number] = Call.of(func, args, kwargs or {})
        return result

    def _note_node(self) -> None:
        """Notes the step of the backward pass that autograd has given the last result meanwhile."""
        assert self._last is not None
        number, tensor = self._last
        if tensor.grad_fn is not None:
            self.seen.nodes[number] = tensor.grad_fn, tensor.output_nr
        self._last = None

    def finish(self) -> None:
        """Notes what is left to note; raises DeviatesError if operators are missing."""
        if self._last is not None:
            self._note_node()
        if self._number != len(self._operators):
            raise DeviatesError


def seen_in(recorder: Recorder, plan: Plan) -> Seen:
    """Returns what a watcher would have seen in the pass that was recorded, but for the backward pass."""
    results, calls = plan.wanted()
    return Seen(recorder.results_of(results), recorder.calls_of(calls))
