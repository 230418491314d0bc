"""TensorFlow's convolutions, poolings and resizings, in the words of :mod:`keras_gradcam.engine.graphs.graph`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ..boxes import Window
from ..graphs.graph import RESIZE, TRANSPOSED_WINDOW, WINDOW, Operation
from . import kinds
from .operations import attribute, text

# How resizings say what they do, beside sizes, factors and shifts.
_RESIZE_ATTRIBUTES = ("align_corners", "half_pixel_centers", "kernel_type", "antialias")


def window(operation: Operation, op: tf.Operation, shape: Sequence[int]) -> None:
    """Says what a convolution, a pooling or a resizing computes; leaves it opaque if that cannot be said.

    Args:
        operation: Its translation, with its inputs.
        op: The operation.
        shape: Shape of its first result, for one sample.
    """
    if op.type in kinds.CONVOLUTIONS:
        _convolution(operation, op)
    elif op.type in kinds.TRANSPOSED_CONVOLUTIONS:
        _transposed(operation, op, shape)
    elif op.type in kinds.POOLINGS:
        _pooling(operation, op)
    elif op.type in kinds.RESIZES:
        _resizing(operation, op)


def _channels(op: tf.Operation) -> int:
    """Returns the axis of the channels."""
    return text(op.get_attr("data_format")).index("C")


def _windows(op: tf.Operation, sizes: Sequence[int], shape: Sequence[int]) -> dict[int, Window]:
    """Returns the windows along the spatial axes of a tensor of a shape, of some sizes along them."""
    padding, channels = text(op.get_attr("padding")), _channels(op)
    dilations = attribute(op, "dilations") or [1] * len(shape)
    explicit = attribute(op, "explicit_paddings") or [0] * 2 * len(shape)
    windows = {}
    for axis, size in zip((axis for axis in range(1, len(shape)) if axis != channels), sizes, strict=True):
        stride, dilation = op.get_attr("strides")[axis], dilations[axis]
        if padding == "SAME":
            windows[axis] = Window.same(size, stride, dilation, shape[axis])
        else:
            before, after = explicit[2 * axis : 2 * axis + 2] if padding == "EXPLICIT" else (0, 0)
            windows[axis] = Window(size, stride, dilation, before, after)
    return windows


def _convolution(operation: Operation, op: tf.Operation) -> None:
    shape, kernel, channels = operation.inputs[0].shape, operation.inputs[1].shape, _channels(op)
    groups = shape[channels] if op.type == "DepthwiseConv2dNative" else shape[channels] // kernel[-2]
    operation.rule = WINDOW
    windows = _windows(op, kernel[:-2], shape)
    operation.parameters = {"windows": windows, "channels": channels, "groups": groups}


def _transposed(operation: Operation, op: tf.Operation, shape: Sequence[int]) -> None:
    _, kernel, content = operation.inputs
    channels = _channels(op)
    if kernel.shape[-1] != content.shape[channels]:
        return
    operation.rule, operation.inputs = TRANSPOSED_WINDOW, (content, kernel)
    operation.parameters = {"windows": _windows(op, kernel.shape[:-2], shape), "channels": channels, "groups": 1}


def _pooling(operation: Operation, op: tf.Operation) -> None:
    """Says what a pooling of which each channel is pooled by itself computes."""
    sizes, strides, channels = list(op.get_attr("ksize")), list(op.get_attr("strides")), _channels(op)
    if {sizes[0], sizes[channels], strides[0], strides[channels]} != {1}:
        return
    del sizes[channels], sizes[0]
    operation.rule, operation.function = WINDOW, "max" if op.type.startswith("Max") else "mean"
    windows = _windows(op, sizes, operation.inputs[0].shape)
    operation.parameters = {"windows": windows, "channels": channels, "groups": 0}


def _resizing(operation: Operation, op: tf.Operation) -> None:
    """Says with which weight cells are computed from which: columns of zeros with a single one in them tell."""
    contents = [value.content for value in operation.inputs[1:]]
    if any(content is None for content in contents):
        return
    size, *placed = (np.asarray(content()) for content in contents if content is not None)
    arguments = {name: text(attribute(op, name)) for name in _RESIZE_ATTRIBUTES if attribute(op, name) is not None}
    weights = {}
    with tf.init_scope(), tf.device("CPU:0"):
        for which, axis in enumerate((1, 2)):
            if placed:  # a factor and a shift, both for rows and columns
                scale, shift = (float(pair[which]) for pair in placed)
                arguments.update(scale=np.array([scale, 1], "float32"), translation=np.array([shift, 0], "float32"))
            column = np.eye(operation.inputs[0].shape[axis], dtype=np.float32)[:, :, None, None]
            resize = getattr(tf.raw_ops, op.type)
            result = resize(images=column, size=np.array([size[which], 1], np.int32), **arguments)
            matrix = result.numpy()[:, :, 0, 0].T
            if matrix.shape[0] != matrix.shape[1] or (matrix != np.eye(len(matrix))).any():
                weights[axis] = matrix
    operation.rule, operation.function, operation.parameters = RESIZE, "resize", {"weights": weights}


def dilated(operation: Operation) -> bool:
    """Translates a convolution in blocks, which TensorFlow makes of some dilated ones, into a dilated one.

    Every n-th cell is gathered in a batch of its own, those are convolved, and put where they belong again.

    Args:
        operation: The translation of what puts them where they belong, which is replaced.

    Returns:
        Whether it was one.
    """
    convolution = operation.inputs[0].producer
    gathering = None if convolution is None or convolution.rule != WINDOW else convolution.inputs[0].producer
    if convolution is None or gathering is None or gathering.name != "SpaceToBatchND":
        return False
    contents = [value.content for value in (*gathering.inputs[1:], *operation.inputs[1:])]
    if any(content is None for content in contents):
        return False
    blocks, paddings, again, crops = (np.asarray(content()) for content in contents if content is not None)
    windows = convolution.parameters["windows"]
    plain = all(window == Window(window.size) for window in windows.values())
    if not plain or not np.array_equal(blocks, again) or sorted(windows) != list(range(1, len(blocks) + 1)):
        return False
    operation.inputs, operation.rule = (gathering.inputs[0], *convolution.inputs[1:]), WINDOW
    operation.parameters = {
        **convolution.parameters,
        "windows": {
            axis: Window(window.size, 1, int(block), int(padding[0] - crop[0]), int(padding[1] - crop[1]))
            for (axis, window), block, padding, crop in zip(windows.items(), blocks, paddings, crops, strict=True)
        },
    }
    return True
