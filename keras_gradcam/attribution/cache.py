"""Keeps what was compiled of a model, as long as the model stays the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from ..engine.base import Engine, InputSpec

# Each program holds a graph; a new function as the target of every call must not pile them up.
_KEPT = 8


class CompiledCache:
    """Keeps compiled programs of one model, the latest few.

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

    def get(self, input_spec: InputSpec, key: Hashable, compile_program: Callable[[], Any]) -> Any:
        """Returns what ``compile_program`` returned for inputs like these, as long as the model stays the same."""
        self._engine.build(self._model, input_spec)
        structure, previous = _structure(self._model), self._structure
        if len(structure) != len(previous) or any(a is not b for a, b in zip(structure, previous, strict=True)):
            self._kept.clear()
            self._structure = structure
        full = (input_spec.cache_key(), key)
        if full not in self._kept:
            self._kept[full] = compile_program()
            while len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]
        return self._kept[full]


def _structure(model: Any) -> list[Any]:
    """Lists the objects that a compiled model stands on: when one is replaced, it is another model."""
    layers = model._flatten_layers()
    return [*layers, *(getattr(layer, "activation", None) for layer in layers), *model.variables]
