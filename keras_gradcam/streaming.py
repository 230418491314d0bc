"""Go through a data set once: batches out of anything that holds pictures, and the best of what is seen."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np

from .engine.base import Structure
from .probe import batches as labelled_batches
from .probe import separated

Kept = TypeVar("Kept")


def batches(images: Any, batch_size: int) -> Iterator[Structure]:
    """The pictures of any data set, ``batch_size`` at a time, gone through once.

    Only the pictures of one batch, as the data set gives it, are held at a time.

    Args:
        images: An array of pictures (a memory map stays on disk), or a list or dict of arrays for several inputs;
            ``(images, labels)``; a ``tf.data.Dataset``, a ``keras.utils.PyDataset`` or any iterable of pictures, of
            batches, or of either with labels.
        batch_size: How many pictures a batch has; the last may have fewer.

    Raises:
        ValueError: If it is none of these, is endless, holds nothing, or pictures differ in shape.

    Example:
        >>> import numpy as np
        >>> [len(batch) for batch in batches(np.zeros((5, 8, 8, 3)), 2)]
        [2, 2, 1]
    """
    import keras

    if _is_endless(images):
        raise ValueError(
            "`images` must come to an end. Received: a data set that repeats for ever. "
            "Candidates: the data set before `.repeat()`, `.take(n)`."
        )
    if hasattr(images, "element_spec") or isinstance(images, keras.utils.PyDataset):
        return _full(labelled_batches(images), batch_size)
    if isinstance(images, tuple):
        images, _ = separated(images)
    listed = isinstance(images, (list, tuple)) and bool(images) and all(np.ndim(one) == 3 for one in images)
    if listed or not (hasattr(images, "shape") or isinstance(images, (list, tuple, dict))):
        if not isinstance(images, Iterable):
            raise ValueError(
                f"`images` must hold pictures. Received: {type(images).__name__}. "
                "Candidates: an array (N, H, W, C), a tf.data.Dataset, a PyDataset, an iterable of batches."
            )
        return _full(labelled_batches(images), batch_size)
    return _parts(images, batch_size)


def _is_endless(images: Any) -> bool:
    if hasattr(images, "cardinality"):
        return int(images.cardinality()) == -1  # tf.data.INFINITE_CARDINALITY
    return hasattr(images, "num_batches") and images.num_batches is None


def _parts(images: Structure, batch_size: int) -> Iterator[Structure]:
    """Parts of arrays that lie there as a whole."""
    import keras

    lengths = {len(leaf) if np.ndim(leaf) else 0 for leaf in keras.tree.flatten(images)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "`images` must hold at least one picture, and as many for every input. "
            f"Received: {sorted(lengths)} pictures."
        )
    for start in range(0, lengths.pop(), batch_size):
        yield keras.tree.map_structure(
            lambda array, start=start: np.asarray(array[start : start + batch_size]),
            images,
        )


def _full(given: Iterable[tuple[Structure, Any]], batch_size: int) -> Iterator[Structure]:
    """Batches of any length put together or taken apart, so that all but the last have ``batch_size`` pictures."""
    import keras

    held: list[Structure] = []
    count, shapes = 0, None
    for images, _ in given:
        part = keras.tree.map_structure(np.asarray, images)
        flat = keras.tree.flatten(part)
        shapes = shapes or [leaf.shape[1:] for leaf in flat]
        if shapes != [leaf.shape[1:] for leaf in flat]:
            raise ValueError(
                "`images` must all have one shape. "
                f"Received: shapes {shapes} and {[leaf.shape[1:] for leaf in flat]}. "
                "Candidates: the pictures resized to one shape."
            )
        held.append(part)
        count += len(flat[0])
        if count >= batch_size:
            joined = _joined(held)
            for start in range(0, count - count % batch_size, batch_size):
                yield _rows(joined, slice(start, start + batch_size))
            # Copied, so that the rest does not keep the whole batch alive.
            held = [keras.tree.map_structure(np.copy, _rows(joined, slice(count - count % batch_size, None)))]
            count %= batch_size
    if shapes is None:
        raise ValueError("`images` must hold at least one picture. Received: an empty data set.")
    if count:
        yield _joined(held)


def _joined(parts: list[Structure]) -> Structure:
    import keras

    return parts[0] if len(parts) == 1 else keras.tree.map_structure(lambda *leaves: np.concatenate(leaves), *parts)


def _rows(images: Structure, rows: slice) -> Structure:
    import keras

    return keras.tree.map_structure(lambda array: array[rows], images)


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
