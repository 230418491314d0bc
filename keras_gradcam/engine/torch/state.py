"""Leaves a model and PyTorch as they were found, whatever a forward pass does to them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import torch

from ..model import layer_paths


def modules_of(model: Any) -> list[torch.nn.Module]:
    """Returns the layers that hold PyTorch's own modules, and those modules, each once."""
    found: dict[int, torch.nn.Module] = {}
    for layer in (model, *(layer for _, layer in layer_paths(model))):
        for module in vars(layer).get("_modules", {}).values():
            if isinstance(module, (keras.layers.Layer, torch.nn.ParameterDict, type(None))):
                continue
            found[id(layer)] = layer
            found.update((id(inner), inner) for inner in module.modules())
    return list(found.values())


def weights_of(model: Any) -> list[torch.Tensor]:
    """Returns the tensors in which a model keeps its state: of variables, and of PyTorch's own modules."""
    tensors = [variable.value for variable in model.variables]
    for module in modules_of(model):
        own = (*vars(module).get("_parameters", {}).values(), *vars(module).get("_buffers", {}).values())
        tensors.extend(tensor for tensor in own if tensor is not None)
    return tensors


def device_of(model: Any) -> torch.device:
    """Returns the device on which a model computes."""
    weights = weights_of(model)
    return weights[0].device if weights else keras.ops.convert_to_tensor(0.0).device


@contextmanager
def plain_torch(device: torch.device, gradients: bool = True) -> Iterator[None]:
    """Lets PyTorch run and differentiate without what the caller has switched on: autocast, inference mode, no_grad.

    Args:
        device: Where new tensors are made.
        gradients: Whether to record for a backward pass.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(gradients))
        for kind in {"cpu", device.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(keras.device(str(device)))
        yield


@contextmanager
def as_found(model: Any, by_weights: bool = False) -> Iterator[None]:
    """Undoes what a forward pass does to a model: its assignments, and those of PyTorch's own modules.

    Args:
        model: The model.
        by_weights: Whether variables stay what can be differentiated by. By default a forward pass records nothing for
            the gradients of weights.
    """
    modules = modules_of(model)
    training = [(vars(module), module.training) for module in modules]
    buffers = [
        (vars(module)["_buffers"], name, buffer, buffer._version, buffer.clone())
        for module in modules
        for name, buffer in vars(module).get("_buffers", {}).items()
        if buffer is not None
    ]
    scope = keras.StatelessScope()
    for variable in model.variables:
        scope.add_update((variable, variable.value if by_weights else variable.value.detach()))
    try:
        with scope:
            yield
    finally:
        for attributes, mode in training:
            attributes["training"] = mode
        with torch.no_grad():
            for owner, name, buffer, version, content in buffers:
                owner[name] = buffer
                # Statistics of batches are written past the count of versions.
                if buffer._version != version or not torch.equal(buffer, content):
                    buffer.copy_(content)


@contextmanager
def attributes_kept(model: Any) -> Iterator[None]:
    """Sets attributes of layers back that are assigned meanwhile: tensors without numbers are of no use to a model."""
    layers = [model, *(layer for _, layer in layer_paths(model))]
    before = [(vars(layer), dict(vars(layer))) for layer in {id(layer): layer for layer in layers}.values()]
    try:
        yield
    finally:
        for attributes, kept in before:
            for name in [name for name, value in attributes.items() if name not in kept or value is not kept[name]]:
                attributes.pop(name)
            attributes.update(kept)


def free_circles() -> None:
    """Releases tensors that Keras has left in circles of references, and with them what they were computed from.

    On this backend, Keras walks through structures by functions that refer to themselves.
    """
    gc.collect(0)


@contextmanager
def random_state_kept(device: torch.device, was_drawn: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Sets the global generators of random numbers back to where they were.

    Args:
        device: Where the model computes.
        was_drawn: Tells, at the end, whether any numbers were drawn from them.
    """
    module = getattr(torch, device.type, None) if device.type != "cpu" else None
    before = torch.get_rng_state(), module.get_rng_state(device) if module else None
    try:
        yield
    finally:
        if was_drawn():
            torch.set_rng_state(before[0])
            if module:
                module.set_rng_state(before[1], device)
