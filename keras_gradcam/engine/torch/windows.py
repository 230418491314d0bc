"""PyTorch's convolutions, poolings and resizings, in the words of :mod:`keras_gradcam.engine.graphs.graph`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..boxes import Window
from ..graphs.graph import RESIZE, TRANSPOSED_WINDOW, WINDOW
from .calls import Call, flat_tensors

_POOLINGS = re.compile(r"(max|avg)_pool([123])d(_with_indices)?")

_RESIZES = re.compile(
    r"_?(upsample_(linear1d|bilinear2d|trilinear3d|bicubic2d|nearest(_exact)?[123]d)(_aa)?|adaptive_(avg|max)_pool[123]d)"
)


def is_resizing(call: Call) -> bool:
    """Returns whether an operator resizes a map."""
    return _RESIZES.fullmatch(call.name) is not None


def window(call: Call, output: torch.Tensor) -> tuple[str, str, dict[str, Any]] | None:
    """Returns rule, function and parameters of a convolution, a pooling or a resizing; None for anything else.

    Args:
        call: The call.
        output: Its first result.
    """
    if call.name == "convolution":
        return _convolution(call)
    pooling = _POOLINGS.fullmatch(call.name)
    if pooling:
        return _pooling(call, output, pooling[1], int(pooling[2]))
    if is_resizing(call):
        return RESIZE, "resize", {"weights": _weights(call, output)}
    return None


def _axes(rank: int, spatial: int) -> range:
    """Returns the spatial axes of a tensor, which are its last."""
    return range(rank - spatial, rank)


def _each(numbers: Any, count: int) -> list[int]:
    """Returns one number for each of some axes."""
    numbers = list(numbers) if isinstance(numbers, (list, tuple)) else [numbers]
    return numbers * count if len(numbers) == 1 else numbers


def _convolution(call: Call) -> tuple[str, str, dict[str, Any]]:
    arguments = call.arguments
    rank, spatial = arguments["input"].ndim, arguments["weight"].ndim - 2
    sizes = arguments["weight"].shape[2:]
    names = ("stride", "dilation", "padding", "output_padding")
    strides, dilations, paddings, extras = (_each(arguments[name], spatial) for name in names)
    windows = {}
    for which, axis in enumerate(_axes(rank, spatial)):
        after = paddings[which] - (extras[which] if arguments["transposed"] else 0)
        windows[axis] = Window(int(sizes[which]), strides[which], dilations[which], paddings[which], after)
    parameters = {"windows": windows, "channels": rank - spatial - 1, "groups": arguments["groups"]}
    return TRANSPOSED_WINDOW if arguments["transposed"] else WINDOW, "convolution", parameters


def _pooling(call: Call, output: torch.Tensor, kind: str, spatial: int) -> tuple[str, str, dict[str, Any]]:
    arguments = call.arguments
    source = arguments["self"]
    sizes = _each(arguments["kernel_size"], spatial)
    strides = _each(arguments["stride"], spatial) if arguments["stride"] else sizes
    paddings, dilations = _each(arguments["padding"], spatial), _each(arguments.get("dilation", 1), spatial)
    windows = {}
    for which, axis in enumerate(_axes(source.ndim, spatial)):
        size, stride, dilation, before = sizes[which], strides[which], dilations[which], paddings[which]
        # With `ceil_mode` the last window may reach farther than the padding.
        reached = (output.shape[axis] - 1) * stride + (size - 1) * dilation + 1 - source.shape[axis] - before
        windows[axis] = Window(size, stride, dilation, before, max(before, reached))
    function = "max" if kind == "max" else "mean"
    return WINDOW, function, {"windows": windows, "channels": source.ndim - spatial - 1, "groups": 0}


def _weights(call: Call, output: torch.Tensor) -> dict[int, np.ndarray]:
    """Returns with which weight each cell along an axis is computed from each.

    Resizing treats axes apart: channels that are 1 in one cell along an axis and the same along the others tell.
    """
    source = call.arguments["self"]
    shape = source.shape
    run = call.again([("self", None)])
    weights = {}
    for axis in range(2, source.ndim):
        if output.shape[axis] == shape[axis]:
            continue
        size = shape[axis]
        ones: Sequence[int] = [-1 if other == axis else 1 for other in range(source.ndim)]
        cells = [
            torch.eye(size, dtype=torch.float64)[cell].reshape(ones).expand(1, 1, *shape[2:]) for cell in range(size)
        ]
        result = flat_tensors(run(torch.cat(cells, dim=1)))[0][0]
        line = result[(slice(None), *(slice(None) if other == axis else 0 for other in range(2, source.ndim)))]
        weights[axis] = line.T.numpy()
    return weights
