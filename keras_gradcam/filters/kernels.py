"""The kernels of a convolution as pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.data_sets import Selector
from ..attribution.inputs import check_model, model_input_spec
from ..attribution.layers import LayerLike
from ..drawing.canvas import FAINT, INK, LINE, Canvas, flowed, shortened
from ..drawing.pixels import resized
from ..engine import current_engine
from ..engine.model import declared_inputs, layer_paths
from ..errors import ArgumentError, check_choice, check_whole_number, described

_GAP, _MARGIN = 6, 8

#: The longer side of a tile, in pixels, at most.
_TILE = 60

#: The least width of the legend above the tiles, in pixels.
_LEGEND = 420

#: The grey of the line around a tile; the tile may be as white as the paper.
_OUTLINE = 215

#: The share of the largest below which a kernel counts as empty.
_NEGLIGIBLE = 1e-3


@dataclass(frozen=True, eq=False, repr=False)
class Kernels:
    """The kernels of a convolution.

    Attributes:
        layer: Path of the layer.
        kernels: (height, width, inputs, filters), raw. A depthwise convolution has one input per filter.
        order: int (filters,), the filters in the order in which they are drawn.
        norms: (filters,), the L2 norm of each filter's kernel.
    """

    layer: str
    kernels: np.ndarray
    order: np.ndarray
    norms: np.ndarray

    def __repr__(self) -> str:
        return f"Kernels({self.layer!r}, kernels {self.kernels.shape})"

    def tiles(self, scale: str = "filter") -> np.ndarray:
        """Draws one tile per filter, in their order, a pixel for each weight of the kernel's grid.

        Kernels of three inputs are drawn in red, green and blue, in the order in which the model takes its channels;
        kernels of one input in grey. Zero is mid-grey, and the scale is symmetric. Kernels of any other number of
        inputs cannot be drawn in full: their tiles show from black, which is zero, to white where a kernel reads, by
        its L2 norm over the inputs, not what it reads there.

        Args:
            scale: "filter" stretches every kernel to its own largest weight, so that shapes can be seen (but not one
                whose weights are all below a thousandth of the layer's largest, which stays empty); "common" draws all
                of them on one scale, so that strength can be compared.

        Returns:
            uint8 (filters, height, width, 3).

        Raises:
            ArgumentError: If ``scale`` is neither.
        """
        if scale not in ("filter", "common"):
            raise ArgumentError("scale", "be 'filter' or 'common'", repr(scale))
        values = np.nan_to_num(np.moveaxis(self.kernels, -1, 0)[self.order].astype(np.float64))
        signed = values.shape[-1] in (1, 3)
        if not signed:
            values = np.sqrt((values**2).sum(axis=-1, keepdims=True))
        largest = np.abs(values).max(axis=(1, 2, 3), keepdims=True)
        least = largest.max() * (1 if scale == "common" else _NEGLIGIBLE)
        shares = values / np.maximum(np.maximum(largest, least), np.finfo(np.float64).tiny)
        tiles = np.rint(128 + 127 * shares if signed else 255 * shares).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(tiles, (*tiles.shape[:3], 3)))

    def draw(self, scale: str = "filter", columns: int | None = None) -> np.ndarray:
        """Draws all tiles in a grid, each with the filter's number and the norm of its kernel.

        Args:
            scale: See :meth:`tiles`.
            columns: How many tiles stand in a row; by default about as many as there are rows.

        Returns:
            uint8 (H, W, 3).

        Raises:
            ArgumentError: If ``scale`` or ``columns`` is not valid.
        """
        tiles = self.tiles(scale)
        columns = max(math.ceil(math.sqrt(len(tiles))), min(len(tiles), 6)) if columns is None else columns
        check_whole_number("columns", columns, 1)
        factor = max(1, _TILE // max(tiles.shape[1:3]))
        height, width = tiles.shape[1] * factor, max(tiles.shape[2] * factor, _TILE)
        row = height + LINE + _GAP
        broad = max(columns * (width + _GAP) - _GAP, _LEGEND)
        lines = flowed(self._legend(scale), broad)
        top = _MARGIN + LINE * len(lines) + _GAP
        rows = math.ceil(len(tiles) / columns)
        canvas = Canvas(top + rows * row + _MARGIN, broad + 2 * _MARGIN)
        for number, line in enumerate(lines):
            canvas.text(_MARGIN, _MARGIN + number * LINE, line, FAINT if number else INK)
        for number, (tile, index) in enumerate(zip(tiles, self.order, strict=True)):
            y, x = top + number // columns * row, _MARGIN + number % columns * (width + _GAP)
            canvas.paste(outlined(resized(tile, (height, tiles.shape[2] * factor))), y, x)
            norm = self.norms[index]
            caption = "\u2248 0" if norm < _NEGLIGIBLE * np.nanmax(self.norms) else f"{norm:.2g}"
            canvas.text(x, y + height + 1, shortened(f"{index}: {caption}", width), FAINT)
        return canvas.picture()

    def _legend(self, scale: str) -> list[str]:
        height, width, inputs, count = self.kernels.shape
        colors = {1: "mid-grey is zero", 3: "red, green, blue; mid-grey is zero"}
        kind = colors.get(inputs, f"norm over {inputs} inputs; black is zero")
        scales = "each on its own scale" if scale == "filter" else "all on one scale"
        return [f"{self.layer}: {count} filters of {height}\u00d7{width}", kind, scales, "below: number and norm"]


@dataclass(frozen=True, eq=False)
class Filters:
    """What a :class:`keras_gradcam.GuidedGradCAMCallback` logs about filters.

    Attributes:
        layer: The convolution whose kernels are shown; by default the first.
        images: Pictures among which those are searched that excite the layer's filters most: anything that
            :func:`keras_gradcam.filters.top_activations` takes. Read before the first epoch and after the last.
        every: Show the kernels every so many logged epochs.
        count: The number of filters whose most exciting pictures are shown.
        top: The number of pictures per filter.
        image: Where samples of ``images`` are dicts: the key of the pictures, or a function of a sample.
        label: The same for labels, which are not used.

    Raises:
        ArgumentError: If a number is not one >= 1.
    """

    layer: LayerLike = None
    images: Any = None
    every: int = 1
    count: int = 16
    top: int = 9
    image: Selector = None
    label: Selector = None

    def __post_init__(self) -> None:
        for name in ("every", "count", "top"):
            check_whole_number(name, getattr(self, name), 1)


def outlined(picture: np.ndarray) -> np.ndarray:
    """Draws a thin grey line along the edge of a picture, which sets it off from the paper."""
    framed = picture.copy()
    framed[[0, -1]] = _OUTLINE
    framed[:, [0, -1]] = _OUTLINE
    return framed


def filter_kernels(model: Any, layer: LayerLike = None, sort: str | None = "norm") -> Kernels:
    """Takes the kernels of a convolution, to be looked at.

    Only the first convolution reads the picture itself, and only its kernels look like something.

    Args:
        model: Any Keras model that has its weights; it is not changed.
        layer: A ``Conv2D`` or ``DepthwiseConv2D`` layer: its name, its path, the layer itself, or None for the first
            that the model calls (of a model that does not know the shape of its input: the first that it defines).
        sort: "norm" for the largest L2 norm first; "similarity" for kernels of similar shape (by their cosine,
            hierarchically clustered) side by side; None for the layer's own order.

    Returns:
        The kernels with their order; :meth:`Kernels.draw` draws them.

    Raises:
        ArgumentError: If there is no such convolution, it has no weights yet, or ``sort`` is not valid.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="first"),
        ...                           keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        >>> filter_kernels(model)
        Kernels('first', kernels (3, 3, 3, 4))
        >>> filter_kernels(model).tiles().shape
        (4, 3, 3, 3)
    """
    import keras

    check_model(model)
    check_choice("sort", sort, ("norm", "similarity", None))
    path, convolution = _convolution(model, layer)
    if not convolution.built:
        raise ArgumentError(
            "model", "have its weights", f"a model whose layer {path!r} is not built", "the model after its first call"
        )
    kernels = np.asarray(keras.ops.convert_to_numpy(convolution.kernel))
    if kernels.dtype.kind != "f":
        kernels = kernels.astype(np.float32)  # bfloat16
    if isinstance(convolution, keras.layers.DepthwiseConv2D):
        kernels = kernels.reshape(*kernels.shape[:2], 1, -1)
    rows = kernels.reshape(-1, kernels.shape[-1]).T.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1)
    order = np.arange(len(rows))
    if sort == "norm":
        order = np.argsort(-norms, kind="stable")
    elif sort == "similarity":
        order = _by_similarity(rows, norms)
    return Kernels(path, kernels, order, norms)


def _convolution(model: Any, layer: LayerLike) -> tuple[str, Any]:
    """Finds the convolution that ``layer`` names, with its path; see :func:`filter_kernels`."""
    import keras

    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    convolutions = [(path, candidate) for path, candidate in layer_paths(model) if isinstance(candidate, kinds)]
    if layer is None and len(convolutions) > 1 and declared_inputs(model):
        calls = current_engine().layer_calls(model, model_input_spec(model))
        called = [(call.info.path, call.layer) for call in calls if isinstance(call.layer, kinds)]
        convolutions = called or convolutions
    if layer is None and convolutions:
        return convolutions[0]
    for is_match in (
        lambda path, candidate: candidate is layer or (isinstance(layer, str) and path == layer),
        lambda path, candidate: isinstance(layer, str) and path.endswith(f"/{layer}"),
    ):
        # A layer may be called several times.
        matches = {
            id(candidate): (path, candidate) for path, candidate in reversed(convolutions) if is_match(path, candidate)
        }
        if len(matches) == 1:
            return next(iter(matches.values()))
    paths = [repr(path) for path, _ in convolutions]
    raise ArgumentError(
        "layer",
        "name one Conv2D or DepthwiseConv2D layer",
        described(layer if layer is None or isinstance(layer, str) else getattr(layer, "name", layer)),
        f"{', '.join(paths[:8])}{' ...' if len(paths) > 8 else ''}" or "none: the model has no such layer",
    )


def _by_similarity(rows: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Returns an order in which neighbours have a large cosine; kernels without direction come last."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import pdist

    usable = np.isfinite(norms) & (norms > 0)
    directed = np.flatnonzero(usable)
    if len(directed) > 2:
        distances = np.maximum(pdist(rows[directed], "cosine"), 0)
        # The best order of the leaves takes time cubic in their number.
        tree = linkage(distances, "average", optimal_ordering=len(directed) <= 512)
        directed = directed[leaves_list(tree)]
    return np.concatenate([directed, np.flatnonzero(~usable)])
