"""The pictures of a data set that excite the filters of a layer most."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from ..attribution.data_sets import Selector, read_batches
from ..attribution.explainer import Explainer
from ..attribution.layers import LayerLike
from ..drawing.canvas import FAINT, INK, LINE, Canvas, flowed, shortened
from ..drawing.pixels import displayed, resized
from ..engine.base import Structure
from ..errors import ArgumentError, as_numpy, check_numbers, check_whole_number
from .kernels import outlined
from .receptive_field import Box, ReceptiveField, receptive_field

Kept = TypeVar("Kept")

_GAP, _MARGIN = 6, 8

# The longer side of a crop at most, and the width of its caption at least, in pixels.
_CROP, _CAPTION = 112, 84

# The width of the label before a row of crops, in pixels.
_LABEL = 92

# The least width of the legend above the rows, in pixels.
_LEGEND = 420

# How many filters are searched where none are named.
_FILTERS = 64

# The grey of what lies beyond the border of a picture.
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
        filters: int (F,), the filters that were searched for.
        activations: For each of them its largest activations, the largest first, one per picture; fewer than were
            asked for where there are fewer pictures.
        field: The receptive field by which the crops were cut.
        samples: How many pictures were read.
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
        """Returns the activations, float32 (F, top); NaN where there are fewer."""
        return self._table(np.nan, np.float32, lambda activation: activation.value)

    def indices(self) -> np.ndarray:
        """Returns the numbers of the pictures, int (F, top); -1 where there are fewer."""
        return self._table(-1, np.int64, lambda activation: activation.index)

    def _table(self, missing: float, dtype: Any, number: Callable[[Activation], float]) -> np.ndarray:
        table = np.full((len(self), max(map(len, self.activations), default=0)), missing, dtype)
        for row, activations in zip(table, self.activations, strict=True):
            row[: len(activations)] = [number(activation) for activation in activations]
        return table

    def draw(self, display: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        """Draws a row of crops for each filter, all on one scale, with activations and the numbers of the pictures.

        Where a cell sees beyond the border of its picture, light grey takes the place of what is not there. Crops that
        give a rectified filter activation zero are left out: nothing in them excites it.

        Args:
            display: Turns one crop, as the model takes it, into uint8 (h, w, 3); by default by the
                one rule that fits the range of all pictures that were read.

        Returns:
            uint8 (H, W, 3).
        """
        rows = [
            [activation for activation in row if activation.value > 0 or not rectified]
            for row, rectified in zip(self.activations, self.rectified, strict=True)
        ]
        shown = self._displayed([activation.crop for row in rows for activation in row], display)
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
        for channel, row, is_dead in zip(self.filters, rows, self.never_active, strict=True):
            canvas.text(_MARGIN, y, f"filter {channel}")
            if not row:
                canvas.text(_MARGIN + _LABEL, y, "never active" if is_dead else "no finite activation", FAINT)
            for number, activation in enumerate(row):
                x = _MARGIN + _LABEL + number * step
                canvas.paste(self._placed(next(crops), activation, cell, factor), y, x)
                caption = f"{activation.value:.3g}  #{activation.index}"
                canvas.text(x, y + height + 1, shortened(caption, step - _GAP), FAINT)
            y += tall if row else short
        return canvas.picture()

    def _legend(self) -> list[str]:
        size = self.field.size
        sees = "fields differ" if size is None else f"a cell sees {size[0]}\u00d7{size[1]} pixels"
        gates = ", gates aside" if self.field.gated else ""
        return [f"{self.layer}: strongest of {self.samples} pictures", sees + gates, "below: activation and #picture"]

    def _displayed(self, crops: list[np.ndarray], display: Any) -> list[np.ndarray]:
        """Returns crops as uint8 (h, w, 3), by one rule for all."""
        if display is not None:
            return [np.asarray(display(crop)) for crop in crops]
        if not crops:
            return []
        channels = 1 if crops[0].ndim == 2 else crops[0].shape[-1]
        # Prepend the global minimum and maximum so that every crop is scaled alike.
        limits = np.repeat(np.array(self.limits), channels).reshape(2, channels).astype(crops[0].dtype)
        pixels = np.concatenate([limits, *(crop.reshape(-1, channels) for crop in crops)])
        colors = displayed(pixels[None, None])[0, 0, 2:]
        ends = np.cumsum([math.prod(crop.shape[:2]) for crop in crops])
        parts = np.split(colors, ends[:-1])
        return [part.reshape(*crop.shape[:2], 3) for part, crop in zip(parts, crops, strict=True)]

    def _placed(self, crop: np.ndarray, activation: Activation, cell: tuple[int, int], factor: float) -> np.ndarray:
        """Draws a crop on grey ground where it lies in the receptive field; in the middle if the field has no size."""
        height, width = (max(1, round(side * factor)) for side in cell)
        ground = np.full((height, width, 3), _BEYOND, np.uint8)
        if not crop.size:
            return ground
        field = self.field.unclipped(*activation.cell)
        fits = self.field.size is not None and all(np.less_equal(self.field.size, cell))
        y, x = (cell[0] - crop.shape[0]) / 2, (cell[1] - crop.shape[1]) / 2
        if fits and field is not None:
            y, x = activation.box[1] - field[1], activation.box[0] - field[0]
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
    image: Selector = None,
    label: Selector = None,
) -> TopActivations:
    r"""Finds the pictures of a data set that excite the filters of a layer most, and what in them does.

    A filter's activation in a picture is its largest in the feature map, :math:`v_k(n) = \max_{i, j} A^k_{ij}(n)`,
    and the crop is what the cell that has it sees, found by :func:`receptive_field` for that cell and channel, without
    the gates that are the same for all cells. Of equal activations the earlier picture wins, and the first cell; NaN
    never does. The data set is read once; held are one batch and at most ``filters * top`` crops.

    Args:
        model: Any Keras model; it is not changed.
        images: What the model takes, with labels or without: an array (N, H, W, C), a tf.data.Dataset, a PyDataset, a
            DataLoader or any iterable of pictures or batches.
        layer: The layer: its name, its path, the layer itself, or None for the last feature map.
        filters: One or more channels of the layer; by default all, up to the first 64.
        top: How many pictures to find for each filter.
        batch_size: How many pictures go through the model at once.
        progress: Called after every batch with the number of pictures done.
        image: Where samples are dicts: the key of the pictures, or a function of a sample.
        label: The same for labels, which are not used.

    Returns:
        The :class:`TopActivations`.

    Raises:
        ArgumentError: If an argument is none of these, or does not fit the model.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
        ...                           keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        >>> strongest = top_activations(model, np.random.default_rng(0).random((20, 8, 8, 3)), top=5)
        >>> strongest.values().shape, strongest.activations[0][0].crop.shape
        ((4, 5), (3, 3, 3))

    Source: Zeiler and Fergus, Visualizing Convolutional Networks, ECCV 2014, https://arxiv.org/abs/1311.2901.
    """
    check_whole_number("top", top, 1)
    check_whole_number("batch_size", batch_size, 1)
    if progress is not None and not callable(progress):
        raise ArgumentError("progress", "be a function that takes a number of pictures", repr(progress))
    explainer = Explainer(model, layer=layer, methods=("gradcam",), batch_size=batch_size)
    search: _Search | None = None
    for batch in read_batches(images, batch_size, image=image, label=label):
        prepared, pictures = explainer.prepared(batch.images)
        features = prepared.features(pictures)
        if search is None:
            field = receptive_field(model, layer, batch.images, gates=False)
            search = _Search(field, _channels(filters, features.shape[-1]), top)
        search.add(features, pictures)
        if progress is not None:
            progress(search.samples)
    assert search is not None
    return search.result()


class _Search:
    """The largest activations so far.

    Args:
        field: What the cells of the layer see.
        filters: The channels that are searched for.
        top: How many activations of each are kept.
    """

    def __init__(self, field: ReceptiveField, filters: np.ndarray, top: int) -> None:
        self.field = field
        self.samples = 0
        self._filters = filters
        self._best: Best[Activation] = Best(len(filters), top)
        self._rectified = np.ones(len(filters), dtype=bool)
        self._limits = (np.inf, -np.inf)

    def add(self, features: np.ndarray, images: Structure) -> None:
        """Keeps the activations of a batch that are among the largest."""
        import keras

        pictures = keras.tree.flatten(images)[self.field.input_index]
        finite = pictures[np.isfinite(pictures)]
        if finite.size:
            self._limits = min(self._limits[0], float(finite.min())), max(self._limits[1], float(finite.max()))
        chosen = features[..., self._filters].reshape(len(features), -1, len(self._filters))
        self._rectified &= ~(chosen < 0).any(axis=(0, 1))
        chosen = np.where(np.isnan(chosen), -np.inf, chosen)
        cells = chosen.argmax(axis=1)
        values = np.take_along_axis(chosen, cells[:, None], axis=1)[:, 0]
        crops: dict[tuple[int, Box], np.ndarray] = {}

        def activation(row: int, number: int) -> Activation:
            down, across = divmod(int(cells[row, number]), self.field.grid[1])
            box = self.field.box(down, across, int(self._filters[number]))
            x0, y0, x1, y1 = box
            if (row, box) not in crops:
                # Copied, so that a crop does not keep its batch alive; once for all filters that see the same.
                crops[row, box] = pictures[row, y0:y1, x0:x1].copy()
            value = float(values[row, number])
            return Activation(value, self.samples + row, (down, across), box, crops[row, box])

        self._best.offer(values, activation)
        self.samples += len(features)

    def result(self) -> TopActivations:
        return TopActivations(
            layer=self.field.layer,
            filters=self._filters,
            activations=tuple(tuple(activation for _, activation in kept) for kept in self._best.kept),
            field=self.field,
            samples=self.samples,
            rectified=self._rectified,
            limits=self._limits if self._limits[0] <= self._limits[1] else (0.0, 0.0),
        )


def _channels(filters: Sequence[int] | int | None, count: int) -> np.ndarray:
    """Returns the filters that are searched for, out of ``count``."""
    if filters is None:
        return np.arange(min(count, _FILTERS))
    check_numbers("filters", filters, "be channels of the layer", f"0 to {count - 1}")
    chosen = np.atleast_1d(as_numpy(filters))
    is_whole = chosen.ndim == 1 and chosen.size and chosen.dtype.kind in "iu"
    if not is_whole or chosen.min() < 0 or chosen.max() >= count:
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
        """Keeps the values that are among the largest.

        Args:
            values: (rows, streams), later than all values offered before.
            make: ``make(row, stream)`` returns what belongs to a value; called only for values that are kept.
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
