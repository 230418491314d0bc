"""The pictures of a data set that excite the filters of a layer most."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from ..attribution.explainer import Explainer
from ..attribution.batches import read_batches
from ..attribution.layers import LayerLike
from ..drawing.canvas import FAINT, INK, LINE, Canvas, flowed, shortened
from ..drawing.pixels import displayed, resized
from ..errors import ArgumentError, check_whole_number
from .kernels import outlined
from .receptive_field import Box, ReceptiveField, receptive_field

Kept = TypeVar("Kept")


_GAP, _MARGIN = 6, 8

#: Crops are drawn with their longer side up to this, in pixels, and captions at least this wide.
_CROP, _CAPTION = 112, 84

#: Width of what is written before a row of crops.
_LABEL = 92

#: What stands above them has at least this much room.
_LEGEND = 420

#: How many filters are looked at where none are named.
_FILTERS = 64

#: The grey of what lies beyond the border of a picture.
_BEYOND = 236


@dataclass(frozen=True, eq=False)
class Activation:
    """One picture that excites a filter, at the cell where it does so most.

    Attributes:
        value: The filter's activation there.
        index: Number of the picture in the data set, from 0.
        cell: Row and column on the feature map.
        box: What the cell sees of the picture, (x0, y0, x1, y1) in pixels, ends exclusive.
        crop: The picture within the box, as the model takes it.
    """

    value: float
    index: int
    cell: tuple[int, int]
    box: Box
    crop: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class TopActivations:
    """The pictures that excite the filters of a layer most.

    Attributes:
        layer: Path of the layer.
        filters: int (F,), the filters that were looked at.
        activations: For each of them its largest activations, the largest first, one per picture; fewer than were
            asked for where there are fewer pictures.
        field: The receptive field by which the crops were cut.
        samples: How many pictures were gone through.
        rectified: bool (F,), whether a filter had no activation below zero in any picture, as after a ReLU.
        limits: The smallest and the largest value in all pictures, for display.
    """

    layer: str
    filters: np.ndarray
    activations: tuple[tuple[Activation, ...], ...]
    field: ReceptiveField
    samples: int
    rectified: np.ndarray
    limits: tuple[float, float]

    def __len__(self) -> int:
        return len(self.filters)

    def __repr__(self) -> str:
        return f"TopActivations({self.layer!r}, {len(self)} filters, {self.samples} pictures)"

    @property
    def never_active(self) -> np.ndarray:
        """Bool (F,), the rectified filters that no picture has excited: dead, or of no use for these data."""
        silent = [bool(row) and row[0].value <= 0 for row in self.activations]
        return np.array(silent, dtype=bool) & self.rectified

    def values(self) -> np.ndarray:
        """float32 (F, top), the activations; NaN where there are fewer."""
        return self._table(np.nan, np.float32, lambda one: one.value)

    def indices(self) -> np.ndarray:
        """Int (F, top), the numbers of the pictures; -1 where there are fewer."""
        return self._table(-1, np.int64, lambda one: one.index)

    def _table(self, missing: float, dtype: Any, of: Callable[[Activation], float]) -> np.ndarray:
        table = np.full((len(self), max(map(len, self.activations), default=0)), missing, dtype)
        for row, activations in zip(table, self.activations, strict=True):
            row[: len(activations)] = [of(one) for one in activations]
        return table

    def picture(self, display: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        """A row of crops for each filter, all on one scale, with their activations and the numbers of the pictures.

        Where a cell sees beyond the border of its picture, light grey takes the place of what is not there. Crops that
        give a rectified filter activation zero are left out: nothing in them excites it.

        Args:
            display: Turns one crop, as the model takes it, into uint8 (h, w, 3); by default as
                :func:`keras_gradcam.render.displayed` would turn all pictures that were gone through.

        Returns:
            uint8 (H, W, 3).
        """
        rows = [
            [one for one in row if one.value > 0 or not rectified]
            for row, rectified in zip(self.activations, self.rectified, strict=True)
        ]
        shown = self._shown([one.crop for row in rows for one in row], display)
        cell = max([1, *(crop.shape[0] for crop in shown)]), max([1, *(crop.shape[1] for crop in shown)])
        factor = _CROP // max(cell) if max(cell) <= _CROP else _CROP / max(cell)
        height, width = (max(1, round(side * factor)) for side in cell)
        step = max(width, _CAPTION) + _GAP
        tall, short = height + LINE + _GAP, LINE + _GAP
        columns = max(map(len, rows), default=0)
        broad = max(_LABEL + columns * step - _GAP, _LEGEND)
        lines = flowed(self._legend(), broad)
        head = _MARGIN + len(lines) * LINE + _GAP
        canvas = Canvas(head + sum(tall if row else short for row in rows) + _MARGIN, broad + 2 * _MARGIN)
        for number, line in enumerate(lines):
            canvas.text(_MARGIN, _MARGIN + number * LINE, line, FAINT if number else INK)
        crops, y = iter(shown), head
        for which, row, dead in zip(self.filters, rows, self.never_active, strict=True):
            canvas.text(_MARGIN, y, f"filter {which}")
            if not row:
                canvas.text(_MARGIN + _LABEL, y, "never active" if dead else "no finite activation", FAINT)
            for number, one in enumerate(row):
                x = _MARGIN + _LABEL + number * step
                canvas.paste(self._in_place(next(crops), one, cell, factor), y, x)
                canvas.text(x, y + height + 1, shortened(f"{one.value:.3g}  #{one.index}", step - _GAP), FAINT)
            y += tall if row else short
        return canvas.picture()

    def _legend(self) -> list[str]:
        size = self.field.size
        sees = "fields differ" if size is None else f"a cell sees {size[0]}\u00d7{size[1]} pixels"
        gates = ", gates aside" if self.field.gated else ""
        return [f"{self.layer}: strongest of {self.samples} pictures", sees + gates, "below: activation and #picture"]

    def _shown(self, crops: list[np.ndarray], display: Any) -> list[np.ndarray]:
        """Crops for display, by one rule for all."""
        if display is not None:
            return [np.asarray(display(crop)) for crop in crops]
        if not crops:
            return []
        channels = 1 if crops[0].ndim == 2 else crops[0].shape[-1]
        # All pixels in one row, after two that show the rule the range of all pictures.
        limits = np.repeat(np.array(self.limits), channels).reshape(2, channels).astype(crops[0].dtype)
        pixels = np.concatenate([limits, *(crop.reshape(-1, channels) for crop in crops)])
        colors = displayed(pixels[None, None])[0, 0, 2:]
        ends = np.cumsum([math.prod(crop.shape[:2]) for crop in crops])
        parts = np.split(colors, ends[:-1])
        return [part.reshape(*crop.shape[:2], 3) for part, crop in zip(parts, crops, strict=True)]

    def _in_place(self, crop: np.ndarray, one: Activation, cell: tuple[int, int], factor: float) -> np.ndarray:
        """A crop on grey ground, at the place that it has in the field; in the middle if the field has no size."""
        height, width = (max(1, round(side * factor)) for side in cell)
        ground = np.full((height, width, 3), _BEYOND, np.uint8)
        if not crop.size:
            return ground
        whole = self.field.unclipped(*one.cell)
        fits = whole is not None and self.field.size is not None and all(np.less_equal(self.field.size, cell))
        y, x = (cell[0] - crop.shape[0]) / 2, (cell[1] - crop.shape[1]) / 2
        if fits and whole is not None:
            y, x = one.box[1] - whole[1], one.box[0] - whole[0]
        drawn = resized(crop, (max(1, round(crop.shape[0] * factor)), max(1, round(crop.shape[1] * factor))))
        top, left = min(round(y * factor), height - drawn.shape[0]), min(round(x * factor), width - drawn.shape[1])
        ground[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
        return outlined(ground)


def top_activations(
    model: Any,
    images: Any,
    layer: LayerLike = None,
    filters: Sequence[int] | int | None = None,
    top: int = 9,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> TopActivations:
    r"""Finds the pictures of a data set that excite the filters of a layer most, and what in them does.

    A filter's activation in a picture is its largest over the cells (i, j) of the feature map A,

    .. math:: v_k(n) = \max_{i, j} A^k_{ij}(n)

    and the crop is what the cell that has it truly sees, found by :func:`receptive_field` for that cell and channel,
    within the picture. Of equal activations the earlier picture wins, and the first cell; NaN never does. What is the
    same for every cell (the gates of squeeze and excitation) is left out of the field, which would be the whole
    picture otherwise.

    The data set is gone through once. At any time one batch is held, and the crops that are best so far: at most
    ``filters * top`` of them.

    Args:
        model: Any Keras model; it is not changed.
        images: What the model takes: an array (N, H, W, C), a ``tf.data.Dataset``, a ``keras.utils.PyDataset`` or any
            iterable of pictures or batches; with labels or without.
        layer: The layer: its name, its path, the layer itself, or None for the last feature map.
        filters: One or more channels of the layer; by default all, but no more than the first 64.
        top: How many pictures to find for each filter.
        batch_size: How many pictures go through the model at once. The result does not depend on it.
        progress: Called after every batch with the number of pictures done.

    Returns:
        The :class:`TopActivations`.

    Raises:
        ValueError: If an argument is none of these, or does not fit the model.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
        ...                           keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        >>> found = top_activations(model, np.random.default_rng(0).random((20, 8, 8, 3)), top=5)
        >>> found.values().shape, found.activations[0][0].crop.shape
        ((4, 5), (3, 3, 3))

    Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014,
    https://arxiv.org/abs/1311.2901.
    """
    import keras

    check_whole_number("top", top, 1)
    check_whole_number("batch_size", batch_size, 1)
    explainer = Explainer(model, layer=layer, methods=("gradcam",), batch_size=batch_size)
    search: _Search | None = None
    for batch in (found.images for found in read_batches(images, batch_size)):
        features = explainer.features(batch)
        if search is None:
            field = receptive_field(model, layer, batch, gates=False)
            search = _Search(field, _channels(filters, features.shape[-1]), top)
        search.take(features, keras.tree.flatten(batch)[search.field.input_index])
        if progress is not None:
            progress(search.samples)
    assert search is not None
    return search.found()


class _Search:
    """The largest activations so far.

    Args:
        field: What the cells of the layer see.
        filters: The channels that are looked at.
        top: How many activations of each are kept.
    """

    def __init__(self, field: ReceptiveField, filters: np.ndarray, top: int) -> None:
        self.field = field
        self.samples = 0
        self._filters = filters
        self._best: Best[Activation] = Best(len(filters), top)
        self._rectified = np.ones(len(filters), dtype=bool)
        self._limits = (np.inf, -np.inf)

    def take(self, features: np.ndarray, pictures: np.ndarray) -> None:
        """Takes what is large enough from a batch."""
        finite = pictures[np.isfinite(pictures)]
        if finite.size:
            self._limits = min(self._limits[0], float(finite.min())), max(self._limits[1], float(finite.max()))
        chosen = features[..., self._filters].reshape(len(features), -1, len(self._filters))
        self._rectified &= ~(chosen < 0).any(axis=(0, 1))
        chosen = np.where(np.isnan(chosen), -np.inf, chosen)
        cells = chosen.argmax(axis=1)
        values = np.take_along_axis(chosen, cells[:, None], axis=1)[:, 0]
        crops: dict[tuple[int, Box], np.ndarray] = {}

        def made(row: int, number: int) -> Activation:
            down, across = divmod(int(cells[row, number]), self.field.grid[1])
            box = self.field.box(down, across, int(self._filters[number]))
            x0, y0, x1, y1 = box
            if (row, box) not in crops:
                # Copied, so that a crop does not keep its batch alive; once for all filters that see the same.
                crops[row, box] = pictures[row, y0:y1, x0:x1].copy()
            value = float(values[row, number])
            return Activation(value, self.samples + row, (down, across), box, crops[row, box])

        self._best.offer(values, made)
        self.samples += len(features)

    def found(self) -> TopActivations:
        return TopActivations(
            layer=self.field.layer,
            filters=self._filters,
            activations=tuple(tuple(one for _, one in kept) for kept in self._best.kept),
            field=self.field,
            samples=self.samples,
            rectified=self._rectified,
            limits=self._limits if self._limits[0] <= self._limits[1] else (0.0, 0.0),
        )


def _channels(filters: Sequence[int] | int | None, count: int) -> np.ndarray:
    """The filters that are looked at, out of ``count``."""
    if filters is None:
        return np.arange(min(count, _FILTERS))
    chosen = np.atleast_1d(np.asarray(filters))
    whole = chosen.ndim == 1 and chosen.size and chosen.dtype.kind in "iu"
    if not whole or chosen.min() < 0 or chosen.max() >= count:
        raise ArgumentError("filters", "be channels of the layer", repr(filters), f"0 to {count - 1}")
    return chosen.astype(np.int64)


class Best(Generic[Kept]):
    """The largest values of several streams, with what belongs to them, in constant memory.

    Of equal values the earlier wins; NaN and minus infinity never do.

    Args:
        streams: How many streams there are.
        top: How many values of each are kept.

    Example:
        >>> import numpy as np
        >>> best = Best(streams=1, top=2)
        >>> best.offer(np.array([[1.0], [3.0]]), lambda row, stream: f"row {row}")
        >>> best.offer(np.array([[3.0], [np.nan]]), lambda row, stream: f"later row {row}")
        >>> best.kept
        [[(3.0, 'row 1'), (3.0, 'later row 0')]]
    """

    def __init__(self, streams: int, top: int) -> None:
        self._top = top
        #: For every stream its largest values with what belongs to them, the largest first.
        self.kept: list[list[tuple[float, Kept]]] = [[] for _ in range(streams)]

    def offer(self, values: np.ndarray, make: Callable[[int, int], Kept]) -> None:
        """Takes what is large enough.

        Args:
            values: (rows, streams), later ones than those offered before.
            make: ``make(row, stream)`` gives what belongs to a value; called for those alone that are kept.
        """
        values = np.where(np.isnan(values), -np.inf, values)
        lowest = np.array([kept[-1][0] if len(kept) == self._top else -np.inf for kept in self.kept])
        for stream in np.flatnonzero((values > lowest).any(axis=0)):
            rows = np.argsort(-values[:, stream], kind="stable")[: self._top]
            new = [(float(values[row, stream]), functools.partial(make, int(row), int(stream))) for row in rows]
            old = [(value, functools.partial(_itself, kept)) for value, kept in self.kept[stream]]
            merged = sorted([*old, *new], key=lambda entry: -entry[0])[: self._top]
            self.kept[stream] = [(value, get()) for value, get in merged if value > -np.inf]


def _itself(kept: Kept) -> Kept:
    return kept
