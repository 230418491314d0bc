"""The probe: the fixed pictures that are explained at every epoch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.inputs import Batch, join_batches, read_batches
from ..attribution.targets.classes import class_numbers
from ..drawing.pixels import displayed, no_larger_than_a_cell
from ..engine.base import Structure
from ..errors import ArgumentError
from ..metrics.regions import Region

# A dataset is read this many times as far as there are probes, in search of pairs.
_FAR = 32

# So many pictures of an identity are taken while there are others: each pair is another one then.
_OF_EACH = 4


@dataclass(frozen=True, eq=False)
class Probe:
    """Some pictures of what the user gave, copied.

    Attributes:
        images: What the model takes, N samples.
        labels: int (N,), or None.
        places: int (N,), where they stand in what was given.
    """

    images: Structure
    labels: np.ndarray | None
    places: np.ndarray

    def __len__(self) -> int:
        import keras

        return len(keras.tree.flatten(self.images)[0])


def take_probe(probe: Any, limit: int, paired: bool = False) -> Probe:
    """Takes samples out of anything that Keras trains on: the first ``limit``, or those that make pairs.

    Args:
        probe: An array of images; ``(images, labels)``; a ``tf.data.Dataset`` of either, batched or not; a
            ``keras.utils.PyDataset``. Images of a model with several inputs are a list or dict of arrays.
        limit: How many samples to take.
        paired: Whether each should have another one of its label, where there are more samples than ``limit``.

    Raises:
        ValueError: If it is none of these, holds nothing, or labels are neither integers nor one-hot.

    Example:
        >>> import numpy as np
        >>> take_probe((np.zeros((9, 8, 8, 3)), np.eye(3)[[2, 0, 1] * 3]), 4).labels
        array([2, 0, 1, 2])
        >>> take_probe((np.zeros((6, 8, 8, 3)), [5, 1, 2, 3, 1, 5]), 4, paired=True).places
        array([0, 1, 4, 5])
    """
    import keras

    found = _gathered(probe, limit, paired)
    images, labels = found.images, found.labels
    if isinstance(images, (list, tuple)) and images and all(np.ndim(one) == 3 for one in images):
        images = np.stack([np.asarray(one) for one in images])  # a list of pictures
    images = keras.tree.map_structure(_array, images)
    flat = keras.tree.flatten(images)
    if not flat or any(array.dtype.kind in "OSU" for array in flat) or not len(flat[0]):
        raise ArgumentError(
            "probe",
            "hold at least one picture",
            str(_described(probe)),
            "images, (images, labels), a tf.data.Dataset or a PyDataset of either",
        )
    count = len(flat[0])
    places = np.arange(min(limit, count))
    if labels is not None:
        labels = class_numbers("probe[1]", labels, soft=True)
        if len(labels) != count:
            raise ArgumentError("probe", "have one label per picture", f"{len(labels)} labels for {count} pictures")
        if paired and count > limit:
            places = paired_places(labels, limit)
        labels = labels[places]
    images = keras.tree.map_structure(lambda array: array[places], images)
    if not all(np.isfinite(array).all() for array in keras.tree.flatten(images)):
        warnings.warn("`probe` holds values that are not finite; what is shown for them says nothing.", stacklevel=3)
    return Probe(images, labels, places)


def paired_places(labels: np.ndarray, limit: int) -> np.ndarray:
    """Chooses labels that occur more than once: of as many values as there is room for four times, the first ones.

    Args:
        labels: int (N,).
        limit: How many to choose at most.

    Returns:
        int, at most ``limit`` positions, ascending.

    Raises:
        ValueError: If no label occurs twice.

    Example:
        >>> import numpy as np
        >>> paired_places(np.array([1, 1, 1, 1, 1, 2, 3, 2]), 6)
        array([0, 1, 2, 3, 5, 7])
    """
    found: dict[int, list[int]] = {}
    for place, label in enumerate(labels.tolist()):
        found.setdefault(label, []).append(place)
    # In the order in which they become pairs, which does not depend on how far a dataset was read.
    groups = sorted((places for places in found.values() if len(places) > 1), key=lambda places: places[1])
    if not groups or limit < 2:
        raise ArgumentError(
            "probe",
            "hold two pictures of an identity, to pair them",
            f"{len(labels)} pictures of {len(found)} identities, max_probes={limit}",
            "pictures sorted by identity, Similarity(pictures of the partners)",
        )
    chosen: list[int] = []
    for places in groups:
        room = min(limit - len(chosen), _OF_EACH)
        if room > 1:  # one alone would have no partner
            chosen += places[:room]
    more = sorted(place for places in groups for place in places[_OF_EACH:] if places[0] in chosen)
    return np.sort(chosen + more[: limit - len(chosen)])


def explained_pictures(name: str, images: Structure, which: int) -> np.ndarray:
    """Of what a model takes, the input that is explained.

    Raises:
        ValueError: If it holds no pictures.
    """
    import keras

    pictures = keras.tree.flatten(images)[which]
    if pictures.ndim not in (3, 4):
        raise ValueError(
            f"`{name}` must hold pictures, shape (N, H, W, C) or (N, H, W). Received: shape {pictures.shape}. "
            "Candidates: keras_gradcam.Explainer, for series and volumes."
        )
    return np.asarray(pictures)


class Display:
    """The probes as people know them.

    Args:
        images: (N, H, W, C), as the model takes them.
        given: uint8 (N, H', W', 3), where the user gave pictures.
    """

    def __init__(self, images: np.ndarray, given: np.ndarray | None) -> None:
        self._images, self._given = images, given

    @property
    def pictures(self) -> np.ndarray:
        """uint8 (N, H, W, 3), no larger than they are drawn."""
        return no_larger_than_a_cell(displayed(self._images) if self._given is None else self._given)

    def partners(self, images: np.ndarray, source: np.ndarray | None) -> np.ndarray:
        """The partners, by the same rule: probes themselves, at ``source``, or other pictures."""
        if source is not None:
            return self.pictures[source]
        if images.shape[1:] != self._images.shape[1:]:
            return no_larger_than_a_cell(displayed(images))
        # One rule for both, so that they can be compared.
        return no_larger_than_a_cell(displayed(np.concatenate([self._images, images]))[len(self._images) :])


def given_pictures(images: Any, places: Sequence[int] | np.ndarray) -> np.ndarray | None:
    """The given pictures at the places of the probes, ready for display."""
    if images is None:
        return None
    pictures = np.asarray(images)
    single = pictures.ndim == 3 and pictures.shape[-1] in (1, 3, 4)
    if pictures.ndim not in (3, 4) or single or len(pictures) <= max(places):
        raise ValueError(
            f"`display_images` must hold one picture per probe, shape ({max(places) + 1}, H, W, 3). "
            f"Received: shape {pictures.shape}.{_explained_places(places)}"
        )
    return displayed(pictures[places])


def given_regions(
    regions: Sequence[Region] | np.ndarray | None, indices: Sequence[int] | np.ndarray
) -> list[Region] | None:
    """Returns the regions of the probes, which stand at ``indices`` of the pictures given."""
    if regions is None:
        return None
    if len(regions) <= max(indices):
        raise ValueError(
            f"`regions` must hold one box or mask per probe. Received: {len(regions)} for {max(indices) + 1} probes."
            f"{_explained_places(indices)}"
        )
    return [regions[index] for index in indices]


def _explained_places(places: Sequence[int] | np.ndarray) -> str:
    if max(places) < len(places):
        return ""
    return (
        f" The probes are {len(places)} of the pictures given, chosen to make pairs; the last is number {max(places)}."
    )


def _gathered(probe: Any, limit: int, paired: bool) -> Batch:
    """As many samples as are needed."""
    parts: list[Batch] = []
    count = 0
    for batch in read_batches(probe, name="probe", endless=True):
        parts.append(batch)
        count += len(batch)
        labels = [part.labels for part in parts if part.labels is not None]
        if count >= limit and (not paired or not labels or count >= limit * _FAR or _suffice(labels, limit)):
            break
    return join_batches(parts)


def _suffice(labels: Sequence[np.ndarray], limit: int) -> bool:
    """Whether there are enough pairs among them, of several labels."""
    _, counts = np.unique(class_numbers("probe[1]", np.concatenate(labels), soft=True), return_counts=True)
    return int(np.minimum(counts[counts > 1], _OF_EACH).sum()) >= limit


def _array(value: Any) -> np.ndarray:
    try:
        return np.atleast_1d(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise ArgumentError("probe", "be made of arrays", f"{_described(value)} ({error})") from error


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__} of shape {tuple(shape)}" if shape is not None else type(value).__name__
