"""The probe: the fixed pictures that are explained at every epoch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.data_sets import Batch, Selector, join_batches, read_batches
from ..attribution.targets.classes import class_numbers
from ..drawing.pixels import displayed, no_larger_than_a_cell
from ..engine.base import Structure
from ..errors import ArgumentError, as_numpy, check_list, check_numbers, check_whole_number
from ..metrics.regions import Region
from .shuffling import random_states_kept, warn_about_shuffling

# In search of pairs, a data set is read up to this many times as far as there are probes.
_READ_AHEAD = 32

# Maximum pictures per identity, so that pairs cover several identities.
_PER_IDENTITY = 4


class Probe:
    """The pictures that a :class:`keras_gradcam.GuidedGradCAMCallback` explains at every epoch.

    They are read when a callback takes the probe: the first ones, or where the callback's target compares pictures of
    one identity, the first whose identity has another picture, four of each while there is room for more identities.

    Args:
        data: An array of pictures, ``(pictures, labels)``, or a list or dict of arrays for several inputs; a
            ``tf.data.Dataset``, a ``keras.utils.PyDataset``, a ``torch.utils.data.DataLoader`` or any iterable of
            pictures or batches, with or without labels: whatever Keras takes for validation. Class numbers and one-hot
            rows are shown, and explained by default; other labels are left aside.
        limit: Maximum number of pictures.
        regions: Where attention should (or should not) be, one per picture of ``data``: boxes (x0, y0, x1, y1) in input
            pixels, upper bounds exclusive, or masks (H, W). Adds the share of mass inside and the pointing game.
        display_images: The pictures as people know them where the model takes preprocessed ones, one per picture of
            ``data``, (N, H, W, 3). By default the model's inputs are stretched for display.
        image: Where samples are dicts, as those of ``tensorflow_datasets``: the key of the pictures, or a function that
            makes what the model takes out of a sample.
        label: The same for the labels.

    Raises:
        ArgumentError: If ``limit`` is no whole number >= 1.

    Example:
        >>> import numpy as np
        >>> probe = Probe((np.zeros((9, 8, 8, 3)), np.eye(3)[[2, 0, 1] * 3]), limit=4)
        >>> probe.read().labels
        array([2, 0, 1, 2])
        >>> samples = [{"image": np.zeros((8, 8, 3)), "label": 5}, {"image": np.ones((8, 8, 3)), "label": 2}]
        >>> Probe(samples, image="image", label="label").read().labels
        array([5, 2])
    """

    def __init__(
        self,
        data: Any,
        *,
        limit: int = 16,
        regions: Sequence[Region] | np.ndarray | None = None,
        display_images: Any = None,
        image: Selector = None,
        label: Selector = None,
    ) -> None:
        check_whole_number("limit", limit, 1)
        self.limit = int(limit)
        self._data, self._image, self._label = data, image, label
        self._regions, self._display_images = regions, display_images

    def read(self, paired: bool = False) -> ProbeSamples:
        """Reads the pictures and what belongs to them.

        Args:
            paired: Whether each picture should have another one of its label, where there are more than ``limit``.

        Returns:
            Copies: what happens to the data afterwards does not change them.

        Raises:
            ArgumentError: If the data hold no pictures, no label occurs twice where pairs are asked for, or there are
                fewer regions or display images than pictures.

        Example:
            >>> import numpy as np
            >>> Probe((np.zeros((6, 8, 8, 3)), [5, 1, 2, 3, 1, 5]), limit=4).read(paired=True).indices
            array([0, 1, 4, 5])
        """
        import keras

        warn_about_shuffling(self._data)
        with random_states_kept():
            batch = self._gathered(paired)
        if any(array.dtype.kind in "OSU" for array in keras.tree.flatten(batch.images)):
            raise ArgumentError(
                "probe",
                "hold at least one picture",
                _described(self._data),
                ["images", "(images, labels)", "a tf.data.Dataset or a PyDataset of either"],
            )
        indices = np.arange(min(self.limit, len(batch)))
        if paired and batch.labels is not None and len(batch) > self.limit:
            indices = paired_indices(class_numbers("probe[1]", batch.labels, soft=True), self.limit)
        images = keras.tree.map_structure(lambda array: array[indices], batch.images)
        if not all(np.isfinite(array).all() for array in keras.tree.flatten(images)):
            warnings.warn(
                "`probe` holds values that are not finite; what is shown for them says nothing.", stacklevel=3
            )
        given = None
        if batch.labels is not None:
            given = keras.tree.map_structure(lambda array: array[indices], batch.labels)
        return ProbeSamples(
            images,
            numbers_of(given),
            indices,
            select_regions(self._regions, indices),
            select_display_images(self._display_images, indices),
            given,
        )

    def _gathered(self, paired: bool) -> Batch:
        """Reads as many samples as are needed."""
        parts: list[Batch] = []
        count = 0
        for batch in read_batches(self._data, name="probe", image=self._image, label=self._label, endless=True):
            parts.append(batch)
            count += len(batch)
            labels = [part.labels for part in parts if part.labels is not None]
            far = count >= self.limit * _READ_AHEAD
            if count >= self.limit and (not paired or not labels or far or _suffice(labels, self.limit)):
                break
        return join_batches(parts)

    def __repr__(self) -> str:
        return f"Probe({_described(self._data)}, limit={self.limit})"


@dataclass(frozen=True, eq=False)
class ProbeSamples:
    """The pictures of a probe.

    Attributes:
        images: What the model takes, N samples.
        labels: int (N,), where the labels are numbers of classes or identities, or None.
        indices: int (N,), their positions in the data.
        regions: One box or mask per picture, or None.
        display_images: uint8 (N, H, W, 3), or None.
        given_labels: The labels as the data have them: an array, or a list or dict of arrays for several outputs.
    """

    images: Structure
    labels: np.ndarray | None
    indices: np.ndarray
    regions: tuple[Region, ...] | None = None
    display_images: np.ndarray | None = None
    given_labels: Structure = None

    def __len__(self) -> int:
        import keras

        return len(keras.tree.flatten(self.images)[0])


def numbers_of(labels: Structure) -> np.ndarray | None:
    """Returns labels as the numbers of classes or identities, int64 (N,), or None if they are something else.

    Example:
        >>> import numpy as np
        >>> numbers_of(np.array([2.0, 1.0])).tolist(), numbers_of(np.array([0.5, 1.5]))
        ([2, 1], None)
    """
    if not isinstance(labels, np.ndarray):
        return None
    try:
        return class_numbers("probe[1]", labels, soft=True)
    except ArgumentError:
        return None


def as_probe(data: Probe | Any) -> Probe:
    """Returns a probe itself, or the probe of a data set."""
    return data if isinstance(data, Probe) else Probe(data)


def paired_indices(labels: np.ndarray, limit: int) -> np.ndarray:
    """Chooses pictures whose label occurs more than once, at first four of each label.

    Args:
        labels: int (N,).
        limit: Maximum number of pictures.

    Returns:
        int, at most ``limit`` indices, ascending.

    Raises:
        ArgumentError: If no label occurs twice.

    Example:
        >>> import numpy as np
        >>> paired_indices(np.array([1, 1, 1, 1, 1, 2, 3, 2]), 6)
        array([0, 1, 2, 3, 5, 7])
    """
    by_label: dict[int, list[int]] = {}
    for index, label in enumerate(labels.tolist()):
        by_label.setdefault(label, []).append(index)
    # In the order in which they become pairs, which does not depend on how far a data set was read.
    groups = sorted((indices for indices in by_label.values() if len(indices) > 1), key=lambda indices: indices[1])
    if not groups or limit < 2:
        raise ArgumentError(
            "probe",
            "hold two pictures of an identity, to pair them",
            f"{len(labels)} pictures of {len(by_label)} identities, limit={limit}",
            ["pictures sorted by identity", "Similarity(pictures of the partners)"],
        )
    chosen: list[int] = []
    for indices in groups:
        room = min(limit - len(chosen), _PER_IDENTITY)
        if room > 1:  # a single one would have no partner
            chosen += indices[:room]
    more = sorted(index for indices in groups for index in indices[_PER_IDENTITY:] if indices[0] in chosen)
    return np.sort(chosen + more[: limit - len(chosen)])


def explained_pictures(name: str, images: Structure, input_index: int, axes: int = 2) -> np.ndarray:
    """Returns the input that is explained, of what a model takes.

    Args:
        name: The argument that errors are about.
        images: What the model takes.
        input_index: Which of its inputs is explained.
        axes: How many axes the maps have.

    Raises:
        ArgumentError: If it holds no pictures.
    """
    import keras

    pictures = keras.tree.flatten(images)[input_index]
    if pictures.ndim not in (3, 4) or axes != 2:
        raise ArgumentError(
            name,
            "hold pictures, shape (N, H, W, C) or (N, H, W)",
            f"shape {pictures.shape}",
            "keras_gradcam.Explainer, for series and volumes",
        )
    return np.asarray(pictures)


def display_pictures(
    images: np.ndarray, display_images: np.ndarray | None, partners: np.ndarray | None, source: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the probes and their partners as people know them, uint8 (N, H, W, 3), no larger than they are drawn.

    Args:
        images: (N, H, W, C), the probes as the model takes them.
        display_images: uint8 (N, H', W', 3), where the user gave pictures to show, or None.
        partners: (N, H, W, C), the other pictures of pairs, or None.
        source: int (N,), the probe that each partner is, or None where they are other pictures.
    """
    pictures = no_larger_than_a_cell(displayed(images) if display_images is None else display_images)
    if partners is None or source is not None:
        return pictures, None if source is None else pictures[source]
    if partners.shape[1:] != images.shape[1:]:
        return pictures, no_larger_than_a_cell(displayed(partners))
    # Stretched together with the probes, so that both can be compared.
    together = displayed(np.concatenate([images, partners]))
    return pictures, no_larger_than_a_cell(together[len(images) :])


def select_regions(
    regions: Sequence[Region] | np.ndarray | None, indices: Sequence[int] | np.ndarray
) -> tuple[Region, ...] | None:
    """Selects the regions of the probes, which stand at ``indices`` of the data.

    Raises:
        ArgumentError: If there are too few.
    """
    if regions is None:
        return None
    regions = check_list("regions", regions, "hold one box or mask per picture of the probe's data")
    if len(regions) <= max(indices):
        raise ArgumentError(
            "regions",
            f"hold one box or mask per picture of the probe's data{_explained(indices)}",
            f"{len(regions)} for {max(indices) + 1} pictures",
        )
    return tuple(regions[index] for index in indices)


def select_display_images(images: Any, indices: Sequence[int] | np.ndarray) -> np.ndarray | None:
    """Selects the display images of the probes, which stand at ``indices`` of the data.

    Raises:
        ArgumentError: If there are too few, or they are no pictures.
    """
    if images is None:
        return None
    check_numbers("display_images", images, "be pictures")
    pictures = as_numpy(images)
    single = pictures.ndim == 3 and pictures.shape[-1] in (1, 3, 4)
    if pictures.ndim not in (3, 4) or single or 0 in pictures.shape[1:] or len(pictures) <= max(indices):
        raise ArgumentError(
            "display_images",
            f"hold one picture per picture of the probe's data, shape ({max(indices) + 1}, H, W, 3)"
            f"{_explained(indices)}",
            f"shape {pictures.shape}",
        )
    return displayed(pictures[indices])


def _explained(indices: Sequence[int] | np.ndarray) -> str:
    """Says why probes need what belongs to a later picture."""
    if max(indices) < len(indices):
        return ""
    return f" ({len(indices)} of the pictures were chosen to make pairs; the last is number {max(indices)})"


def _suffice(labels: Sequence[np.ndarray], limit: int) -> bool:
    """Returns whether there are enough pairs among pictures with these labels, of several labels."""
    _, counts = np.unique(class_numbers("probe[1]", np.concatenate(labels), soft=True), return_counts=True)
    return int(np.minimum(counts[counts > 1], _PER_IDENTITY).sum()) >= limit


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__} of shape {tuple(shape)}" if shape is not None else type(value).__name__
