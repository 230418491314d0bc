"""Records the operators that PyTorch runs into a graph, below autograd, whatever Python code has called them.

Tensors are known by their identity. What is written into a tensor (``relu_``, ``x[:, 1:] = y``) makes it another value;
tensors that share its memory are read anew when they are used next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..graphs.graph import CONSTANT, INPUT, MOVE, OPAQUE, WEIGHT, Graph, Operation, Value
from .arrays import array_of
from .calls import Call, flat_tensors, on_arrays
from .operators import draws_numbers, translated

#: What autograd calls for tensors that it keeps for the backward pass, beside what a model calls.
DETACH = torch.ops.aten.detach.default


class _Geometry(NamedTuple):
    """How a tensor lies in its memory."""

    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Geometry:
        return cls(int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride(), tensor.dtype)


class _Known(NamedTuple):
    """A tensor that was seen.

    Attributes:
        tensor: The tensor, which is kept so that its identity stays its own.
        value: Its value.
        writes: How often its memory had been written to when it had that value.
    """

    tensor: torch.Tensor
    value: Value
    writes: int


class _Result(NamedTuple):
    """A value that an operator has returned.

    Attributes:
        value: The value, which is kept so that its identity stays its own.
        number: The number of the operator.
        position: Which of its results.
        tensor: The tensor.
    """

    value: Value
    number: int
    position: int
    tensor: torch.Tensor


class Content:
    """The numbers of a constant; they are copied when something is written over them.

    Args:
        tensor: The constant.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor
        self._array: np.ndarray | None = None

    def __call__(self) -> np.ndarray:
        return array_of(self._tensor) if self._array is None else self._array

    def keep(self) -> None:
        """Copies the numbers."""
        self._array = self()


class Recorder(TorchDispatchMode):
    """Records all operators that are called while it is active; it may be entered several times.

    Args:
        weights: The tensors of the model's variables, parameters and buffers.

    Attributes:
        graph: What has been recorded.
        operators: The operators that were called, without those of autograd.
        draws: Whether any of them may have drawn random numbers.
        paused: Whether operators are not the model's at the moment.
    """

    def __init__(self, weights: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.graph = Graph([], [])
        self.paused = False
        self.operators: list[Any] = []
        self.draws = False
        self._calls: dict[int, tuple[int, Call]] = {}
        self._weights = {storage_of(tensor): tensor for tensor in weights}
        self._known: dict[int, _Known] = {}
        self._writes: dict[int, list[tuple[Value, _Geometry]]] = {}
        self._in_storage: dict[tuple[int, _Geometry], _Known] = {}
        self._contents: dict[int, list[Content]] = {}
        self._results: dict[int, _Result] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing of this is compiled, and asking PyTorch not to do so costs time at every operator.
        return False

    def feed(self, tensor: torch.Tensor) -> Value:
        """Makes a tensor the next of the model's inputs."""
        value = Value(tuple(tensor.shape), dtype_of(tensor))
        self.graph.inputs.append(value)
        self._note(tensor, value)
        return value

    def value(self, tensor: torch.Tensor) -> Value:
        """Returns the value that a tensor has now."""
        known = self._known.get(id(tensor)) or self._in_storage.get((storage_of(tensor), _Geometry.of(tensor)))
        if known is None:
            value = self._unknown(tensor)
            self._note(tensor, value)
            return value
        writes = self._writes.get(storage_of(tensor), [])
        if known.writes == len(writes):
            return known.value
        value, own = known.value, _Geometry.of(tensor)
        for written, geometry in writes[known.writes :]:
            value = written if geometry == own else self._overwritten(tensor, value, written, geometry)
        self._note(tensor, value)
        return value

    def place_of(self, value: Value) -> tuple[int, int] | None:
        """Returns the number of the operator that a value is a result of, and which result; None for other values.

        None, too, for one over which something was written later.
        """
        result = self._results.get(id(value))
        if result is None or self.value(result.tensor) is not value:
            return None
        return result.number, result.position

    def results_of(self, numbers: Iterable[int]) -> dict[int, list[torch.Tensor]]:
        """Returns the results of the operators with these numbers."""
        found: dict[int, list[torch.Tensor]] = {number: [] for number in numbers}
        for result in self._results.values():
            if result.number in found:
                found[result.number].append(result.tensor)
        return found

    def calls_of(self, numbers: Iterable[int]) -> dict[int, Call]:
        """Returns the calls of the operators with these numbers."""
        calls = dict(self._calls.values())
        return {number: calls[number] for number in numbers}

    def same(self, tensor: torch.Tensor, other: torch.Tensor) -> None:
        """Notes that a tensor stands for another one from now on."""
        self._note(tensor, self.value(other))

    def call_of(self, operation: Operation) -> tuple[int, Call] | None:
        """Returns the number of the operator that an operation stands for, and its call."""
        return self._calls.get(id(operation))

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        if self.paused:
            return func(*args, **(kwargs or {}))
        call = Call.of(func, args, kwargs or {})
        written = call.written()
        for tensor in written:
            for content in self._contents.pop(storage_of(tensor), []):
                content.keep()
        # What is read has its value from before the call.
        values = {id(tensor): self.value(tensor) for tensor in map(call.get, call.slots())}
        result = func(*args, **(kwargs or {}))
        tensors = flat_tensors(result)
        outputs = [Value(tuple(tensor.shape), dtype_of(tensor)) for tensor in tensors]
        operations = translated(call, lambda part: self._argument(part, values), outputs, tensors)
        random = draws_numbers(call)
        self.draws = self.draws or (random and call.arguments.get("generator") is None)
        inputs = [value.origin for operation in operations for value in operation.inputs]
        origin = _highest([*inputs, WEIGHT if random else CONSTANT])
        if origin != CONSTANT:
            self.graph.operations.extend(operations)
            self._calls[id(operations[-1])] = len(self.operators), call
        for position, (tensor, value) in enumerate(zip(tensors, outputs, strict=True)):
            value.origin = origin
            if origin == CONSTANT:
                value.producer = None
            if any(tensor is other for other in written):
                self._writes.setdefault(storage_of(tensor), []).append((value, _Geometry.of(tensor)))
            self._note(tensor, value)
            if func is not DETACH:
                self._results[id(value)] = _Result(value, len(self.operators), position, tensor)
        if func is not DETACH:
            self.operators.append(func)
        return result

    def _argument(self, part: Any, values: dict[int, Value]) -> Value:
        """Returns the value of a tensor among the arguments of a call, or of a number."""
        if isinstance(part, torch.Tensor):
            return values[id(part)]
        array = np.asarray(part)
        return Value(array.shape, array.dtype.name, CONSTANT, lambda: array)

    def _note(self, tensor: torch.Tensor, value: Value) -> None:
        """Notes which value a tensor has now."""
        storage = storage_of(tensor)
        known = self._known[id(tensor)] = _Known(tensor, value, len(self._writes.get(storage, [])))
        key = storage, _Geometry.of(tensor)
        # What autograd keeps of a tensor lies where the tensor does, but is not what the model goes on with.
        if key not in self._in_storage or self._in_storage[key].writes != known.writes:
            self._in_storage[key] = known
        if value.origin == CONSTANT and value.content is None and not _is_unreal(tensor):
            value.content = content = Content(tensor)
            self._contents.setdefault(storage, []).append(content)

    def _unknown(self, tensor: torch.Tensor) -> Value:
        """Returns a value for a tensor that no operator has made: a weight, or a constant."""
        origin = WEIGHT if storage_of(tensor) in self._weights else CONSTANT
        return Value(tuple(tensor.shape), dtype_of(tensor), origin)

    def _overwritten(self, tensor: torch.Tensor, value: Value, written: Value, geometry: _Geometry) -> Value:
        """Returns the value of a tensor into a part of whose memory another value was written."""
        own, length = _Geometry.of(tensor), tensor.untyped_storage().nbytes() // max(tensor.element_size(), 1)

        def run(before: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
            memory = torch.zeros(length, dtype=before.dtype)
            torch.as_strided(memory, own.size, own.stride, own.offset).copy_(before)
            torch.as_strided(memory, geometry.size, geometry.stride, geometry.offset).copy_(part)
            return torch.as_strided(memory, own.size, own.stride, own.offset).clone()

        rule = MOVE if own.dtype == geometry.dtype else OPAQUE
        origin = _highest([value.origin, written.origin])
        result = Value(value.shape, value.dtype, origin)
        if origin != CONSTANT:
            operation = Operation(
                "copy_", "scatter", rule, (value, written), (result,), None, on_arrays(run), {"moved": (0, 1)}
            )
            result.producer = operation
            self.graph.operations.append(operation)
        return result


def _highest(origins: Sequence[str]) -> str:
    return next(origin for origin in (INPUT, WEIGHT, CONSTANT) if origin in origins)


def _is_unreal(tensor: torch.Tensor) -> bool:
    """Returns whether a tensor has a shape, but no numbers."""
    return tensor.is_meta or isinstance(tensor, torch._subclasses.FakeTensor)


def storage_of(tensor: torch.Tensor) -> int:
    """Returns what tells the memory of a tensor from that of others."""
    return int(tensor.untyped_storage()._cdata)


def dtype_of(tensor: torch.Tensor) -> str:
    """Returns the name of a tensor's dtype."""
    return str(keras.backend.standardize_dtype(tensor.dtype))
