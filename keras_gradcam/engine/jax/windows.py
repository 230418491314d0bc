"""JAX's convolutions, poolings and resizing, in the words of :mod:`keras_gradcam.engine.graphs.graph`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np

from ..boxes import Window
from ..graphs.graph import RESIZE, TRANSPOSED_WINDOW, WINDOW, Operation

_POOLINGS = {"reduce_window_sum": "sum", "reduce_window_max": "max", "reduce_window_min": "min"}


def window(name: str, operation: Operation, equation: Any) -> bool:
    """Translates a convolution, a pooling or a resizing; returns whether it was one."""
    if name == "conv_general_dilated":
        _convolution(operation, equation)
    elif name in _POOLINGS or name == "reduce_window":
        _pooling(name, operation, equation.params)
    elif name == "_resize":
        operation.name, operation.function, operation.rule = "resize", "resize", RESIZE
        before, after = operation.inputs[0].shape, equation.outvars[0].aval.shape
        operation.parameters = {"weights": _resize_weights(equation, before, after)}
    return operation.rule in (RESIZE, TRANSPOSED_WINDOW, WINDOW)


def _pooling(name: str, operation: Operation, params: Any) -> None:
    """Translates a pooling, of which each channel is pooled by itself; others stay opaque."""
    names = ("window_dimensions", "window_strides", "window_dilation")
    axes = zip(*(params[name] for name in names), params["padding"], strict=True)
    windows = {axis: Window(*numbers, *padding) for axis, (*numbers, padding) in enumerate(axes)}
    windows = {axis: window for axis, window in windows.items() if window != Window(1)}
    left = [axis for axis in range(1, len(operation.inputs[0].shape)) if axis not in windows]
    if left and 0 not in windows and all(dilation == 1 for dilation in params["base_dilation"]):
        operation.rule, operation.function = WINDOW, _POOLINGS.get(name, "pooling")
        operation.parameters = {"windows": windows, "channels": left[-1], "groups": 0}


def _convolution(operation: Operation, equation: Any) -> None:
    """Translates a convolution or a transposed one; others stay opaque."""
    params = equation.params
    numbers = params["dimension_numbers"]
    lhs, rhs, out = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    if lhs != out or params["batch_group_count"] != 1:
        return
    kernel, shape = operation.inputs[1].shape, operation.inputs[0].shape
    axes = [
        (axis, kernel[rhs[which + 2]], *(params[name][which] for name in ("window_strides", "rhs_dilation", "padding")))
        for which, axis in enumerate(lhs[2:])
    ]
    dilated = params["lhs_dilation"]
    groups = params["feature_group_count"]
    if all(dilation == 1 for dilation in dilated):
        operation.rule = WINDOW
        windows = {
            axis: Window(size, stride, dilation, before, after)
            for axis, size, stride, dilation, (before, after) in axes
        }
        operation.parameters = {"windows": windows, "channels": lhs[1], "groups": groups}
    elif groups == 1 and all(stride == 1 for _, _, stride, _, _ in axes):
        windows = {}
        for spread, (axis, size, _, dilation, (before, _)) in zip(dilated, axes, strict=True):
            reach = (size - 1) * dilation
            extent = equation.outvars[0].aval.shape[axis]
            after = (shape[axis] - 1) * spread + 1 + reach - extent - (reach - before)
            windows[axis] = Window(size, spread, dilation, reach - before, after)
        if all(window.before >= 0 for window in windows.values()):
            operation.rule = TRANSPOSED_WINDOW
            operation.parameters = {"windows": windows, "channels": lhs[1], "groups": groups}


def called(equation: Any) -> Callable[[Sequence[Any]], list[Any]]:
    """Returns the function that a call calls, for tensors of any dtype."""
    run = jex.jaxpr_as_fun(equation.params["jaxpr"])
    return lambda tensors: run(*tensors)


def _resize_weights(equation: Any, before: tuple[int, ...], after: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Returns with which weight each cell along an axis is computed from each: pictures with one cell of 1 tell."""
    constants = [np.zeros(variable.aval.shape, variable.aval.dtype) for variable in equation.invars[1:]]
    run = called(equation)
    weights = {}
    with jax.ensure_compile_time_eval():
        for axis, (cells, results) in enumerate(zip(before, after, strict=True)):
            if cells == results:
                continue
            matrix = np.zeros((results, cells), np.float32)
            other = tuple(0 if index != axis else slice(None) for index in range(len(before)))
            # Resizing treats axes apart: what is the same along the others comes out the same along them.
            for cell in range(cells):
                picture = np.zeros(before, np.float32)
                picture[tuple(slice(None) if index != axis else cell for index in range(len(before)))] = 1
                matrix[:, cell] = np.asarray(run([picture, *constants])[0])[other]
            weights[axis] = matrix
    return weights
