"""The pixels that a cell of a feature map is computed from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..attribution.inputs import (
    check_model,
    explained_input,
    input_shape,
    input_spec_of,
    model_input_spec,
    preprocessed,
    standardized,
)
from ..attribution.layers import LayerLike, choose_layer
from ..engine import current_engine
from ..engine.base import InputSpec, ReceptiveBoxes, Request, Structure
from ..errors import ArgumentError, check_flag

#: A part of a picture, (x0, y0, x1, y1) in pixels, the ends exclusive.
Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False, repr=False)
class ReceptiveField:
    """Which pixels of the picture the cells of a layer's feature map are computed from.

    Two answers, which agree inside the picture and differ at its border. :meth:`box` is what a cell truly sees: part
    of the picture, found operation by operation with all paddings and croppings. :meth:`unclipped` is what it would
    see in a picture without border, where all cells see equally much: cell (i, j) the ``size`` pixels from
    ``offset + stride * (i, j)`` on.

    Attributes:
        layer: Path of the layer.
        input_size: Height and width of the picture.
        boxes: int32 (h, w, channels, 4), the box of every cell and channel; (0, 0, 0, 0) where it sees nothing but
            padding. Read-only; channels that see the same share memory.
        size: Height and width of the unclipped field, or None where cells do not see equally much: after attention,
            pooling over everything, resizing, transposed convolutions.
        stride: Pixels from the unclipped field of one cell to the field of the next, (down, across), or None.
        offset: Where the unclipped field of cell (0, 0) begins, (y, x), negative in the padding; or None.
        input_index: Which of the model's inputs is the picture, in flat order.
        gated: Whether every cell is also computed from numbers that are the same for all cells: the gates of squeeze
            and excitation, the statistics of instance and group normalisation. They are made from the whole picture,
            so that every cell formally sees all of it; ``receptive_field(..., gates=False)`` leaves them out.
    """

    layer: str
    input_size: tuple[int, int]
    boxes: np.ndarray
    size: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    offset: tuple[int, int] | None = None
    input_index: int = 0
    gated: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the feature map."""
        return self.boxes.shape[0], self.boxes.shape[1]

    def box(self, row: int, column: int, channel: int | None = None) -> Box:
        """Returns the smallest box around the pixels that a cell is computed from, within the picture.

        Args:
            row: The cell's row, from 0 at the top; negative from the bottom.
            column: The cell's column.
            channel: One channel of the cell, which may see less than others where branches are concatenated; by
                default all of them together.

        Returns:
            (x0, y0, x1, y1), ends exclusive, so that the crop is ``picture[y0:y1, x0:x1]``; (0, 0, 0, 0) where the
            cell sees nothing but padding.

        Raises:
            ArgumentError: If there is no such cell or channel.
        """
        self._check(row, column)
        boxes = self.boxes[row, column]
        if channel is not None:
            if not -len(boxes) <= channel < len(boxes):
                raise ArgumentError("channel", "be one of the layer's", str(channel), f"0 to {len(boxes) - 1}")
            boxes = boxes[channel : channel + 1 or None]
        boxes = boxes[boxes[:, 2] > 0]
        if not len(boxes):
            return 0, 0, 0, 0
        x0, y0 = boxes[:, :2].min(axis=0).tolist()
        x1, y1 = boxes[:, 2:].max(axis=0).tolist()
        return x0, y0, x1, y1

    def unclipped(self, row: int, column: int) -> Box | None:
        """Returns the box that a cell would see in a picture without border, or None where cells see unequally much.

        It may lie partly outside of the picture, and is larger than it in deep networks.

        Args:
            row: The cell's row, from 0 at the top.
            column: The cell's column.

        Raises:
            ArgumentError: If there is no such cell.
        """
        self._check(row, column)
        if self.size is None or self.stride is None or self.offset is None:
            return None
        y0, x0 = (
            start + step * (index % cells)
            for start, step, index, cells in zip(self.offset, self.stride, (row, column), self.grid, strict=True)
        )
        return x0, y0, x0 + self.size[1], y0 + self.size[0]

    def _check(self, row: int, column: int) -> None:
        if not all(-cells <= index < cells for index, cells in zip((row, column), self.grid, strict=True)):
            raise ArgumentError(
                "row",
                f"be, with `column`, a cell of {self.layer!r}",
                f"({row}, {column})",
                f"(0, 0) to ({self.grid[0] - 1}, {self.grid[1] - 1})",
            )

    def __repr__(self) -> str:
        return (
            f"ReceptiveField({self.layer!r}, grid={self.grid}, size={self.size}, stride={self.stride}, "
            f"offset={self.offset}{', gated=True' if self.gated else ''})"
        )


def receptive_field(
    model: Any, layer: LayerLike = None, images: Structure | None = None, *, gates: bool = True
) -> ReceptiveField:
    r"""Finds which pixels the cells of a layer are computed from.

    The graph of the model, functional, sequential or subclassed, with branches and nested models, is traced once and
    followed from the picture to the layer. A window of k cells at distance d, after p cells of padding and with stride
    s, makes of a field of size r at distance j that begins at o

    .. math:: r' = r + (k - 1) d j, \quad j' = s j, \quad o' = o - p j

    without border; boxes are followed cell by cell and hold what remains of this in the picture. Where branches meet,
    a cell sees the box around what it sees through each. A weight that happens to be zero counts like any other.

    Args:
        model: Any Keras model; it is not changed.
        layer: The layer: its name, its path, the layer itself, or None for the last feature map.
        images: A batch of inputs, for models that do not know the size of their input.
        gates: False to leave out what is the same for all cells of a map: see :class:`ReceptiveField`.

    Returns:
        The :class:`ReceptiveField` of the layer.

    Raises:
        ArgumentError: If the size of the input is unknown, there is no such layer, or the layer is computed by an
            operation of which it is not known what it sees.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3, padding="same"),
        ...                           keras.layers.MaxPooling2D(2), keras.layers.Conv2D(8, 3, name="last"),
        ...                           keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        >>> field = receptive_field(model, "last")
        >>> field
        ReceptiveField('last', grid=(14, 14), size=(8, 8), stride=(2, 2), offset=(-1, -1))
        >>> field.box(0, 0), field.unclipped(0, 0), field.box(1, 1)
        ((0, 0, 7, 7), (-1, -1, 7, 7), (1, 1, 9, 9))

    Source: Araujo et al., Computing Receptive Fields of Convolutional Neural Networks, Distill 2019,
    https://distill.pub/2019/computing-receptive-fields.
    """
    check_model(model)
    check_flag("gates", gates)
    if images is None:
        input_spec = model_input_spec(model)
    else:
        input_spec = input_spec_of(standardized(preprocessed(images, model), model))
    _check_size(input_spec, model)
    shape, which = input_shape(input_spec), explained_input(input_spec)
    request = Request(
        target=None,
        arguments=(),
        select=lambda layer_outputs: choose_layer(model, layer_outputs, shape, layer, explained=which),
        explained_input=which,
    )
    return _field(current_engine().receptive_field(model, input_spec, request, gates), input_spec)


def _field(traced: ReceptiveBoxes, input_spec: InputSpec) -> ReceptiveField:
    """Returns an engine's answer as a receptive field."""
    traced.boxes.flags.writeable = False
    height, width = input_spec.leaves[traced.explained_input][0][:2]
    field = ReceptiveField(
        layer=traced.layer.path,
        input_size=(height, width),
        boxes=traced.boxes,
        input_index=traced.explained_input,
        gated=traced.gated,
    )
    down, across = traced.lines
    if down is None or across is None:
        return field
    return replace(
        field,
        size=(down.size, across.size),
        stride=(down.stride, across.stride),
        offset=(down.first, across.first),
    )


def _check_size(input_spec: InputSpec, model: Any) -> None:
    """Raises ArgumentError unless the explained input is a picture of known size."""
    shape = input_shape(input_spec)
    if any(extent is None for leaf, _ in input_spec.leaves for extent in leaf):
        raise ArgumentError(
            "images",
            "be given for a model that takes pictures of any size",
            f"images=None and an input of shape {tuple(shape)}",
            "any batch of one size",
        )
    if len(shape) not in (2, 3):
        raise ArgumentError(
            "model", "take pictures, shape (H, W, C)", f"{type(model).__name__} with an input of shape {tuple(shape)}"
        )
