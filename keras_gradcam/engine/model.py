"""Walks a Keras model: its inputs, its layers, and what every layer returns during one forward pass.

The only module that touches Keras' private attributes. Whatever is set on a model is taken away again.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .base import LayerCall, LayerOutput, Structure

# What a layer's ``__call__`` calls.
_CALLS = ("call", "quantized_call")

# Only one thread at a time may have its wrappers on layers: two explainers may share a model.
_lock = threading.RLock()


def declared_inputs(model: Any, structure: Structure = None) -> list[Any]:
    """Returns the symbolic inputs of a model in flat order, or an empty list if it has none (yet).

    Args:
        model: The model.
        structure: How inputs are given. For a dict they are returned in the order of its sorted keys, which name the
            inputs.
    """
    try:
        inputs = list(model.inputs or ())
    except (AttributeError, ValueError):  # subclassed, or sequential and not built; releases of Keras differ
        return []
    if isinstance(structure, dict) and inputs:
        keyed = getattr(model, "input", None) if len(inputs) > 1 else None
        by_name = keyed if isinstance(keyed, dict) else {declared.name: declared for declared in inputs}
        return [by_name[name] for name in sorted(structure)] if set(structure) <= set(by_name) else []
    return inputs


def layer_paths(model: Any) -> list[tuple[str, Any]]:
    """Returns every layer below ``model`` with its path, outer before inner, in the order of definition.

    A layer that can be reached in several ways appears once for each.
    """
    paths: list[tuple[str, Any]] = []

    def walk(parent: Any, prefix: str, above: tuple[int, ...]) -> None:
        for layer in parent._layers:
            if id(layer) in above:
                continue
            path = prefix + layer.name
            paths.append((path, layer))
            walk(layer, path + "/", (*above, id(layer)))

    walk(model, "", (id(model),))
    return paths


def _single_tensor(result: Any) -> Any:
    """Returns the tensor among a layer's results that can be a feature map: the first, where there are several."""
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        result = result[0] if result else None
    return result if hasattr(result, "shape") and hasattr(result, "dtype") else None


def _with_single_tensor(result: Any, tensor: Any) -> Any:
    """Returns a layer's results with another tensor in the place of the one that can be a feature map."""
    if isinstance(result, dict):
        return type(result)({**result, next(iter(result)): tensor})
    if not isinstance(result, (list, tuple)):
        return tensor
    parts = [tensor, *result[1:]]
    return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)


def weights_digest(model: Any) -> str:
    """Returns the SHA-256 of a model's weights."""
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(np.ascontiguousarray(np.asarray(variable)).tobytes())
    return digest.hexdigest()


def loss_says_classes(model: Any, names: Sequence[str], count: int) -> list[bool]:
    """Returns for each output whether the loss that the model was compiled with takes it for the scores of classes.

    Args:
        model: The model; it need not be compiled.
        names: The names of its outputs, where it has names for them.
        count: The number of its outputs.
    """
    loss = getattr(model, "loss", None)
    if isinstance(loss, dict):
        losses = [loss.get(name) for name in names] if names else list(loss.values())
    elif isinstance(loss, (list, tuple)):
        losses = list(loss)
    else:
        losses = [loss] * count
    return [_is_of_classes(losses[index]) if index < len(losses) else False for index in range(count)]


def _is_of_classes(loss: Any) -> bool:
    """Returns whether a loss compares classes, by its name."""
    name = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")
    name = str(name).lower().replace("_", "")
    return any(part in name for part in ("crossentropy", "hinge", "focal", "logloss"))


@contextmanager
def recorded_calls(model: Any, change: Callable[[LayerOutput], Any] | None = None) -> Iterator[list[LayerOutput]]:
    """Records every layer call that this thread makes while the context lasts, in the yielded list.

    Each layer's ``call``, and ``quantized_call``, which Keras calls in its stead once a layer is quantized, is shadowed
    by an attribute of the instance, which is removed on the way out whatever happens; calls from other threads pass
    through unseen.

    Args:
        model: The model.
        change: Called with each layer output as soon as it is there, in place of recording it: returns the tensor with
            which the model goes on, which may be the output itself.
    """
    owner = threading.get_ident()
    layer_outputs: list[LayerOutput] = []
    counts: Counter[int] = Counter()

    def shadow(layer: Any, path: str, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if threading.get_ident() == owner:
                output = _single_tensor(result)
                if output is not None:
                    shape = tuple(None if size is None else int(size) for size in output.shape)
                    info = LayerCall(path, type(layer).__name__, shape, counts[id(layer)])
                    layer_output = LayerOutput(info, layer, output)
                    if change is None:
                        layer_outputs.append(layer_output)
                    elif (tensor := change(layer_output)) is not output:
                        result = _with_single_tensor(result, tensor)
                counts[id(layer)] += 1
            return result

        return call

    with _lock:
        layers: dict[int, tuple[str, Any]] = {}
        for path, layer in layer_paths(model):
            layers.setdefault(id(layer), (path, layer))
        before = [(layer, dict(vars(layer))) for layer in (model, *(layer for _, layer in layers.values()))]
        losses = [
            (layer, list(layer._losses), set(layer._loss_ids)) for layer, _ in before if hasattr(layer, "_loss_ids")
        ]
        try:
            for path, layer in layers.values():
                # Straight into the instance's dictionary: Keras' own __setattr__ would track the wrapper.
                for name in _CALLS:
                    if hasattr(layer, name):
                        vars(layer)[name] = shadow(layer, path, getattr(layer, name))
            yield layer_outputs
        finally:
            for layer, attributes in before:
                # Keras notes in `_called` that a layer was called; for the caller it was not.
                for name in (*_CALLS, "_called"):
                    if name in attributes:
                        vars(layer)[name] = attributes[name]
                    else:
                        vars(layer).pop(name, None)
            for layer, kept, ids in losses:
                # ... and clears the losses of the call before; training may still want them.
                layer._losses[:] = kept
                layer._loss_ids.clear()
                layer._loss_ids.update(ids)
