"""A call of one of PyTorch's operators, with its arguments by their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

# Operators that want the elements of their argument to lie in a row.
_VIEWS = {"_reshape_alias", "_unsafe_view", "view"}

#: Where a tensor stands among the arguments of an operator: the name of the argument and, in a list, the position.
Slot = tuple[str, int | None]


@dataclass(frozen=True, eq=False)
class Call:
    """A call of an operator.

    Attributes:
        operator: The operator, such as ``torch.ops.aten.relu_.default``.
        name: Its name without what tells apart its forms, such as "relu".
        arguments: Its arguments by name, those that were left out with their default.
    """

    operator: Any
    name: str
    arguments: dict[str, Any]

    @classmethod
    def of(cls, operator: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Call:
        """Returns the call of an operator with these arguments."""
        schema = operator._schema
        arguments: dict[str, Any] = {}
        for position, argument in enumerate(schema.arguments):
            if position < len(args):
                arguments[argument.name] = args[position]
            elif argument.name in kwargs:
                arguments[argument.name] = kwargs[argument.name]
            else:
                arguments[argument.name] = argument.default_value
        name = schema.name.partition("::")[2]
        return cls(operator, name.removesuffix("_") if schema.is_mutable else name, arguments)

    def get(self, slot: Slot) -> Any:
        """Returns the argument, or the part of a list, at a slot."""
        name, index = slot
        return self.arguments[name] if index is None else self.arguments[name][index]

    def slots(self, *names: str) -> list[Slot]:
        """Returns the slots of the tensors among some arguments, all arguments by default."""
        found: list[Slot] = []
        for name in names or self.arguments:
            argument = self.arguments[name]
            if isinstance(argument, torch.Tensor):
                found.append((name, None))
            elif isinstance(argument, (list, tuple)):
                found.extend((name, index) for index, part in enumerate(argument) if isinstance(part, torch.Tensor))
        return found

    def written(self) -> list[torch.Tensor]:
        """Returns the tensors that the operator writes to."""
        if not self.operator._schema.is_mutable:
            return []
        names = [
            argument.name
            for argument in self.operator._schema.arguments
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        return [self.get(slot) for slot in self.slots(*names)]

    def again(self, slots: Sequence[Slot]) -> Callable[..., Any]:
        """Returns a function that calls the operator, in the form that writes to no argument, with other tensors.

        It keeps none of the tensors of this call.

        Args:
            slots: Where the tensors that it takes stand.
        """
        schema = self.operator._schema
        packet = getattr(torch.ops.aten, self.name)
        if self.name in _VIEWS and "size" in self.arguments:
            size = list(self.arguments["size"])
            return lambda tensor: tensor.reshape(size)
        kept = {name: _without_tensors(argument) for name, argument in self.arguments.items()}

        def call(*tensors: Any) -> Any:
            arguments = {name: list(kept[name]) if isinstance(kept[name], list) else kept[name] for name in kept}
            for (name, index), tensor in zip(slots, tensors, strict=True):
                if index is None:
                    arguments[name] = tensor
                else:
                    arguments[name][index] = tensor
            positional = [arguments[argument.name] for argument in schema.arguments if not argument.kwarg_only]
            by_name = {argument.name: arguments[argument.name] for argument in schema.arguments if argument.kwarg_only}
            return packet(*positional, **by_name)

        return call

    def repeated(self, tensors: Sequence[Any]) -> list[Any]:
        """Calls the operator, in the form that writes to no argument, with other tensors in place of its own."""
        return flat_tensors(self.again(self.slots())(*tensors))


def _without_tensors(argument: Any) -> Any:
    if isinstance(argument, (list, tuple)):
        return [None if isinstance(part, torch.Tensor) else part for part in argument]
    return None if isinstance(argument, torch.Tensor) else argument


def flat_tensors(result: Any) -> list[Any]:
    """Returns the tensors among what an operator returned."""
    parts = result if isinstance(result, (list, tuple)) else [result]
    return [
        tensor
        for part in parts
        for tensor in (flat_tensors(part) if isinstance(part, (list, tuple)) else [part])
        if isinstance(tensor, torch.Tensor)
    ]


def on_arrays(function: Callable[..., Any]) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """Returns a function of tensors as one of arrays, which keep their precision."""

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            results = function(*(torch.from_numpy(np.array(array)) for array in arrays))
        return [tensor.numpy() for tensor in flat_tensors(results)]

    return run
