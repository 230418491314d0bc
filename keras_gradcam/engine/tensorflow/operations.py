"""The receptive fields of what TensorFlow's operations compute: a rule for each kind of operation.

A rule takes the :class:`Reach` of an operation's inputs and returns that of its output. "Element A sees B" means that A
is computed from B.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from ..boxes import (
    NO_LINES,
    Line,
    Lines,
    Reach,
    Window,
    compacted,
    joined_lines,
    kept,
    mixed,
    scattered,
    summed,
    united,
    windowed,
)

# Weights of a resized picture below this are rounding.
_NO_WEIGHT = 1e-6

# Where tf.raw_ops calls an argument otherwise than the operation does.
_RENAMED = {"reduction_indices": "axis", "split_dim": "axis", "squeeze_dims": "axis"}


class Reader(Protocol):
    """Looks up tensors that do not depend on the picture."""

    def shape(self, tensor: tf.Tensor) -> tuple[int, ...]:
        """Returns the shape of a tensor for one picture."""

    def value(self, tensor: tf.Tensor) -> np.ndarray:
        """Returns the value of a tensor that does not depend on the picture: an axis, a shape."""


def attribute(op: tf.Operation, name: str) -> Any:
    """Returns an attribute of an operation, or None if it has no such attribute."""
    return op.get_attr(name) if name in op.node_def.attr else None


def text(value: Any) -> Any:
    """Decodes ``value`` if it is a string as TensorFlow keeps them."""
    return value.decode() if isinstance(value, bytes) else value


# ------------------------------------------------------------------------------------------- convolutions and poolings


def _windows(op: tf.Operation, sizes: Sequence[int], extents: Sequence[int]) -> list[Window]:
    """Returns the windows of a convolution or a pooling along height and width."""
    padding = text(op.get_attr("padding"))
    dilations = attribute(op, "dilations") or [1, 1, 1, 1]
    explicit = attribute(op, "explicit_paddings") or [0] * 8
    windows = []
    for axis, size, extent in zip((1, 2), sizes, extents, strict=True):
        stride, dilation = op.get_attr("strides")[axis], dilations[axis]
        if padding == "SAME":
            windows.append(Window.same(size, stride, dilation, extent))
        else:
            before, after = explicit[2 * axis : 2 * axis + 2] if padding == "EXPLICIT" else (0, 0)
            windows.append(Window(size, stride, dilation, before, after))
    return windows


def _channels_last(op: tf.Operation) -> bool:
    return text(op.get_attr("data_format")) == "NHWC"


def _through_windows(values: np.ndarray, lines: Lines, windows: Sequence[Window], channels: int) -> Reach:
    for axis, window in zip((-3, -2), windows, strict=True):
        values = windowed(values, axis, window)
    by_axis = dict(zip((-3, -2), windows, strict=True))
    down, across = (line.through(by_axis[line.axis]) if line and line.axis in by_axis else None for line in lines)
    return Reach(compacted(np.broadcast_to(values, (*values.shape[:-1], channels))), (down, across))


def _by_channel(values: np.ndarray, groups: int) -> np.ndarray:
    """Returns what each group of channels sees; one entry where all see the same."""
    if values.strides[-1] == 0 or groups == 1:
        return values[..., :1] if values.strides[-1] == 0 else values.max(axis=-1, keepdims=True)
    return values.reshape(*values.shape[:-1], groups, -1).max(axis=-1)


def convolved(reader: Reader, op: tf.Operation, reach: Reach) -> Reach | None:
    """Handles a convolution, with groups or depthwise: a cell sees its window, of the channels of its group."""
    if not _channels_last(op):
        return None
    kernel, shape = reader.shape(op.inputs[1]), reader.shape(op.outputs[0])
    groups = reach.shape[-1] if op.type == "DepthwiseConv2dNative" else reach.shape[-1] // kernel[2]
    values = _by_channel(reach.values, groups)
    if values.shape[-1] > 1:
        values = values.repeat(shape[-1] // groups, axis=-1)
    return _through_windows(values, reach.lines, _windows(op, kernel[:2], reach.shape[1:3]), shape[-1])


def pooled(reader: Reader, op: tf.Operation, reach: Reach) -> Reach | None:
    """Handles a pooling: a cell sees its window, each channel for itself."""
    size, strides = op.get_attr("ksize"), op.get_attr("strides")
    if not _channels_last(op) or {size[0], size[3], strides[0], strides[3]} != {1}:
        return None
    values = _by_channel(reach.values, reach.shape[-1])
    return _through_windows(values, reach.lines, _windows(op, size[1:3], reach.shape[1:3]), reach.shape[-1])


def deconvolved(reader: Reader, op: tf.Operation, reach: Reach) -> Reach | None:
    """Handles a transposed convolution: each cell of the input is seen by all cells under its window."""
    kernel, shape = reader.shape(op.inputs[1]), reader.shape(op.outputs[0])
    if not _channels_last(op) or kernel[3] != reach.shape[-1]:
        return None
    values = _by_channel(reach.values, 1)
    for axis, window in zip((-3, -2), _windows(op, kernel[:2], shape[1:3]), strict=True):
        values = scattered(values, axis, window, shape[axis])
    return Reach(np.broadcast_to(values, (4, *shape)))


def resized(reader: Reader, op: tf.Operation, reach: Reach) -> Reach | None:
    """Handles smooth resizing, which treats rows and columns apart.

    Resizing columns of zeros with a single one in them shows which cells each cell of the result is computed from.
    """
    names = ("align_corners", "half_pixel_centers", "kernel_type", "antialias")
    arguments = {name: text(attribute(op, name)) for name in names if attribute(op, name) is not None}
    values, size = reach.values if reach.values.strides[-1] else reach.values[..., :1], reader.value(op.inputs[1])
    for which, axis in enumerate((-3, -2)):
        if op.type == "ScaleAndTranslate":
            scale, shift = (reader.value(tensor)[which] for tensor in op.inputs[2:])
            arguments.update(scale=np.array([scale, 1], np.float32), translation=np.array([shift, 0], np.float32))
        extent = values.shape[axis]
        column = np.eye(extent, dtype=np.float32)[:, :, None, None]
        resize = getattr(tf.raw_ops, op.type)
        weights = resize(images=column, size=np.array([size[which], 1], np.int32), **arguments).numpy()[:, :, 0, 0]
        values = mixed(values, axis, np.abs(weights.T) > _NO_WEIGHT)
    return Reach(np.broadcast_to(values, (*values.shape[:-1], reach.shape[-1])))


# --------------------------------------------------------------------------------------------------- sums and products


def reduced(reader: Reader, op: tf.Operation, reach: Reach) -> Reach:
    """Handles a mean, a maximum, ... along some axes."""
    rank = len(reach.shape)
    axes = {int(axis) % rank for axis in np.ravel(reader.value(op.inputs[1]))}
    shape = reader.shape(op.outputs[0])
    small = kept(reach.values).max(axis=tuple(axis + 1 for axis in axes), keepdims=True)
    kept_shape = tuple(1 if axis in axes else extent for axis, extent in enumerate(reach.shape))
    values = np.broadcast_to(small, (4, *kept_shape)).reshape(4, *shape)

    def follow(line: Line | None) -> Line | None:
        if line is None or line.held or line.axis + rank in axes:
            return None
        gone = 0 if op.get_attr("keep_dims") else sum(axis > line.axis + rank for axis in axes)
        return replace(line, axis=line.axis + gone)

    return Reach(compacted(values), (follow(reach.lines[0]), follow(reach.lines[1])))


def along_last(reader: Reader, op: tf.Operation, reach: Reach) -> Reach:
    """Handles what is computed from everything along the last axis: a softmax."""
    values = np.broadcast_to(reach.values.max(axis=-1, keepdims=True), reach.values.shape)
    lines = [line if line and line.axis != -1 else None for line in reach.lines]
    return Reach(values, (lines[0], lines[1]))


def normalized(reader: Reader, op: tf.Operation, reach: Reach) -> Reach | None:
    """Handles batch normalisation by fixed statistics; by those of the batch, pictures would see one another."""
    return None if op.get_attr("is_training") else reach


def multiplied(op: tf.Operation, inputs: list[Reach | None], shape: tuple[int, ...]) -> Reach:
    """Handles a product of matrices: an element sees its row and its column."""
    parts, lines = [], NO_LINES
    for position, (reach, name) in enumerate(
        zip(inputs, (("transpose_a", "adj_x"), ("transpose_b", "adj_y")), strict=True)
    ):
        if reach is None:
            continue
        turned = bool(attribute(op, name[0]) or attribute(op, name[1]))
        values = reach.values.swapaxes(-1, -2) if turned else reach.values
        values = kept(values.max(axis=-2 if position else -1, keepdims=True))
        parts.append(values.reshape(4, *(1,) * (len(shape) - values.ndim + 1), *values.shape[1:]))
        if not position and not turned and inputs[1] is None:
            lines = tuple(line if line and line.axis <= -2 else None for line in reach.lines)  # type: ignore[assignment]
    values = parts[0] if len(parts) == 1 else np.maximum(*parts)
    return Reach(np.broadcast_to(values, (4, *shape)), lines)


def contracted(op: tf.Operation, inputs: list[Reach | None], shape: tuple[int, ...]) -> list[Reach | None] | None:
    """Handles an Einstein sum: an element sees each factor, along the axes that are summed over."""
    left, _, result = text(op.get_attr("equation")).replace(" ", "").partition("->")
    result = without_ellipsis(result, len(shape))
    terms = left.split(",")
    parts = []
    for reach, term in zip(inputs, terms, strict=True):
        if reach is not None:
            labels = without_ellipsis(term, len(reach.shape))
            if len(set(labels)) != len(labels):
                return None
            parts.append(Reach(summed(reach.values, labels, result)))
    return [Reach(united(parts, shape).values)]


def without_ellipsis(labels: str, rank: int) -> str:
    """Replaces an ellipsis in the labels of a tensor's axes by one letter for each axis that it stands for."""
    if "..." not in labels:
        return labels
    hidden = rank - len(labels) + 3
    return labels.replace("...", "".join(chr(0x100 + number) for number in range(hidden, 0, -1)))


# --------------------------------------------------------------------------------------------------------------- moves


def moved(reader: Reader, op: tf.Operation, inputs: list[Reach | None]) -> list[Reach | None] | None:
    """Handles operations that only move elements: the boxes are moved as the elements are."""
    moves = carried(op)
    if any(reach for position, reach in enumerate(inputs) if position not in moves):
        return None  # where elements are moved to depends on the picture
    outputs = rearranged(reader, op, [None if reach is None else reach.values for reach in inputs])
    lines = _moved_lines(reader, op, inputs)
    return [Reach(compacted(output), lines) for output in outputs]


def _positions(op: tf.Operation) -> list[tuple[Any, range]]:
    """Returns each argument of an operation's definition with the positions of its inputs."""
    position, result = 0, []
    for argument in op.op_def.input_arg:
        count = op.get_attr(argument.number_attr) if argument.number_attr else 1
        result.append((argument, range(position, position + count)))
        position += count
    return result


def carried(op: tf.Operation) -> set[int]:
    """Returns the positions of the inputs whose elements an operation moves; the others say where to."""
    moving = op.op_def.output_arg[0].type_attr
    return {index for argument, indices in _positions(op) if argument.type_attr == moving for index in indices}


def _attributes(op: tf.Operation) -> dict[str, Any]:
    """Returns the attributes of an operation, by name, but for those that follow from its inputs."""
    definition = op.op_def
    inferred = {name for argument in definition.input_arg for name in (argument.type_attr, argument.number_attr)}
    return {
        _RENAMED.get(attribute.name, attribute.name): text(op.get_attr(attribute.name))
        for attribute in definition.attr
        if attribute.name not in inferred
    }


def repeated(op: tf.Operation, inputs: Sequence[Any]) -> list[Any]:
    """Applies an operation to other inputs, tensors or arrays in their order; returns its results."""
    arguments = {
        _RENAMED.get(argument.name, argument.name): (
            [inputs[index] for index in indices] if argument.number_attr else inputs[indices[0]]
        )
        for argument, indices in _positions(op)
    }
    result = getattr(tf.raw_ops, op.type)(**arguments, **_attributes(op))
    return [result] if tf.is_tensor(result) else list(result)


def evaluated(op: tf.Operation, inputs: Sequence[Any]) -> list[np.ndarray]:
    """Returns the results of an operation for other inputs as arrays."""
    # Outside of the graph that is being made, if one is.
    with tf.init_scope(), tf.device("CPU:0"):
        return [tensor.numpy() for tensor in repeated(op, inputs)]


def rearranged(reader: Reader, op: tf.Operation, values: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """Moves what is known about elements as an operation moves the elements: TensorFlow itself is asked to.

    Args:
        reader: Looks up shapes, and where elements are moved to.
        op: The operation.
        values: For each input (k, *shape), k numbers for each element, or None where nothing is known.

    Returns:
        The same for each output; zero where nothing is known.
    """
    moves = carried(op)
    known = next(array for array in values if array is not None)
    inputs = [
        reader.value(tensor) if position not in moves else np.zeros(reader.shape(tensor), known.dtype)
        for position, tensor in enumerate(op.inputs)
    ]
    results = []
    for which in range(len(known)):
        numbers = [own if array is None else array[which].copy() for own, array in zip(inputs, values, strict=True)]
        results.append(evaluated(op, numbers))
    return [np.stack(output) for output in zip(*results, strict=True)]


def _moved_lines(reader: Reader, op: tf.Operation, inputs: list[Reach | None]) -> Lines:
    """Returns the lines of what an operation of :func:`moved` gives."""
    moves = carried(op)
    arguments = _attributes(op) | {
        argument.name: reader.value(op.inputs[indices[0]])
        for argument, indices in _positions(op)
        if indices[0] not in moves
    }
    reaches = [reach for reach in inputs if reach]
    rank = len(reaches[0].shape)
    if op.type == "ConcatV2":
        axis = int(arguments["axis"]) % rank - rank
        joined = joined_lines(reaches, reader.shape(op.outputs[0]))
        return tuple(line if line and line.axis != axis else None for line in joined)  # type: ignore[return-value]

    def follow(line: Line | None) -> Line | None:
        if line is None:
            return None
        axis = line.axis + rank
        if op.type in ("Pad", "PadV2", "MirrorPad"):
            return line.cut(-int(arguments["paddings"][axis][0]))
        if op.type == "Transpose":
            return None if line.held else replace(line, axis=list(arguments["perm"]).index(axis) - rank)
        if op.type == "StridedSlice":
            return _sliced(line, reaches[0].shape, op.outputs[0].shape.rank, arguments)
        if op.type in ("Split", "SplitV"):
            return line if int(arguments["split_dim"]) % rank != axis and not line.held else None
        if op.type == "Slice":
            return line.cut(int(arguments["begin"][axis]))
        if op.type in ("SpaceToBatchND", "BatchToSpaceND") and axis > len(arguments["block_shape"]):
            return None if line.held else line
        if op.type == "SpaceToBatchND":
            line = line.cut(-int(arguments["paddings"][axis - 1][0]))
            return line and replace(line, held=("blocked", int(arguments["block_shape"][axis - 1])))
        if op.type == "BatchToSpaceND" and line.held == ("blocked", int(arguments["block_shape"][axis - 1])):
            return replace(line, held=()).cut(int(arguments["crops"][axis - 1][0]))
        return None

    return follow(reaches[0].lines[0]), follow(reaches[0].lines[1])


def _sliced(line: Line, shape: tuple[int, ...], rank: int, arguments: dict[str, Any]) -> Line | None:
    """Returns a line after ``x[...]``; ``rank`` is that of the result."""
    masks = {name: arguments[f"{name}_mask"] for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    entries = len(arguments["begin"])
    wanted, axis, new_axis = line.axis + len(shape), 0, 0
    for entry in range(entries):
        has = {name for name, mask in masks.items() if mask >> entry & 1}
        if "ellipsis" in has:
            later = sum(not masks["new_axis"] >> after & 1 for after in range(entry + 1, entries))
            skipped = max(len(shape) - later - axis, 0)
            if axis <= wanted < axis + skipped:
                break
            axis, new_axis = axis + skipped, new_axis + skipped
        elif "new_axis" in has:
            new_axis += 1
        elif axis < wanted:
            axis, new_axis = axis + 1, new_axis + ("shrink_axis" not in has)
        else:
            start, stop, step = (int(arguments[name][entry]) for name in ("begin", "end", "strides"))
            picked = range(shape[axis])[None if "begin" in has else start : None if "end" in has else stop : step]
            cut = line.cut(picked.start, step)
            return replace(cut, axis=new_axis - rank) if cut and step > 0 and "shrink_axis" not in has else None
    return None if line.held else replace(line, axis=new_axis + wanted - axis - rank)


def reshaped(reader: Reader, op: tf.Operation, reach: Reach) -> Reach:
    """Handles the same elements in another shape."""
    before, after = reach.shape, reader.shape(op.outputs[0])

    def follow(line: Line | None) -> Line | None:
        if line is None:
            return None
        if line.held:
            kind, *rest = line.held
            return replace(line, axis=rest[1], held=()) if kind == "folded" and after[:-1] == rest[0] else None
        position = line.axis + len(before)
        if after[: position + 1] == before[: position + 1]:
            return replace(line, axis=position - len(after))
        if after == (math.prod(before[:-1]), before[-1]):
            return replace(line, axis=-2, held=("folded", before[:-1], line.axis))
        return None

    values = compacted(reach.values.reshape(4, *after))
    return Reach(values, (follow(reach.lines[0]), follow(reach.lines[1])))
