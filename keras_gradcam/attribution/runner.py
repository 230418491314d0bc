"""Runs requests in batches and keeps what was compiled."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from ..engine.base import Engine, InputSpec

# Each program holds a graph; functions made anew for every call as targets must not pile them up.
_KEPT = 8


class CompiledCache:
    """A small store of compiled programs.

    Args:
        model: The model they belong to.
        engine: Builds the model when needed.
    """

    def __init__(self, model: Any, engine: Engine) -> None:
        self._model, self._engine = model, engine
        self._kept: dict[Hashable, Any] = {}
        self._structure: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        # A compiled model cannot be copied; it is compiled again when needed.
        return {**self.__dict__, "_kept": {}, "_structure": []}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, input_spec: InputSpec, key: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make`` returns, made once for inputs of one input_spec as long as the model stays the same."""
        self._engine.build(self._model, input_spec)
        structure = _structure(self._model)
        if not _identical(structure, self._structure):
            self._kept.clear()
            self._structure = structure
        full = (input_spec.cache_key(), key)
        if full not in self._kept:
            self._kept[full] = make()
            while len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]
        return self._kept[full]


def _structure(model: Any) -> list[Any]:
    """The objects that a compiled model stands on: when one is replaced, it is another model."""
    layers = model._flatten_layers()
    return [*layers, *(getattr(layer, "activation", None) for layer in layers), *model.variables]


def _identical(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
