"""Queries and galleries: pictures with identities and cameras, read and embedded a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..attribution.data_sets import Batch, Selector, read_batches
from ..attribution.explainer import Explainer
from ..engine.base import Structure
from ..errors import ArgumentError, as_numpy

# How many given embeddings are read at a time.
_BATCH = 1024


@dataclass(frozen=True, eq=False)
class LabelledPictures:
    """A data set of pictures, or of embeddings, with identities and perhaps cameras.

    Attributes:
        name: "query" or "gallery", for errors.
        data: ``(pictures, identities, cameras)`` or ``(pictures, identities)`` as arrays, or anything else that
            :func:`~keras_gradcam.attribution.data_sets.read_batches` reads.
        image: What the pictures are in a sample of a data set, a key or a function. Arrays are taken as they are.
        label: The same for identities.
        camera: The same for cameras.
    """

    name: str
    data: Any
    image: Selector = None
    label: Selector = None
    camera: Selector = None

    @property
    def is_arrays(self) -> bool:
        """Whether everything is there as arrays, which can be indexed."""
        return isinstance(self.data, tuple) or _is_list_of_columns(self.data)

    @property
    def is_read_once(self) -> bool:
        """Whether it is an iterator, used up when it has been read."""
        return not self.is_arrays and isinstance(self.data, Iterator)

    def batches(self, size: int) -> Iterator[Batch]:
        """Reads pictures with identities (``labels``) and cameras (``extra``), ``size`` at a time.

        Raises:
            ArgumentError: If there are no pictures, no identities, or identities and cameras are no whole numbers.
        """
        if self.is_arrays:
            yield from read_batches(self.arrays(), size, name=self.name)
            return
        if self.data is None or (hasattr(self.data, "shape") and self.image is None):
            raise self._is_no_set(type(self.data).__name__)
        for batch in read_batches(
            self.data, size, name=self.name, image=self.image, label=self.label, extra=self.camera
        ):
            if batch.labels is None:
                raise ArgumentError(
                    self.name,
                    "give (pictures, identities) or (pictures, identities, cameras)",
                    "pictures alone",
                    "label=..., where samples are dicts",
                )
            cameras = None if batch.extra is None else self._numbers(batch.extra)
            yield replace(batch, labels=self._numbers(batch.labels), extra=cameras)

    def length(self) -> int | None:
        """Returns how many pictures there are, or None where that is known only after reading them."""
        images: Any = self.data[0] if self.is_arrays and self.data else None
        return len(images) if hasattr(images, "__len__") and not isinstance(images, dict) else None

    def arrays(self) -> tuple[Any, ...]:
        """Returns pictures, identities and perhaps cameras as arrays of one length, where they are arrays.

        Raises:
            ArgumentError: If they do not fit each other.
        """
        if len(self.data) not in (2, 3):
            raise self._is_no_set(type(self.data).__name__)
        images, *columns = self.data
        if isinstance(images, list) and images and np.ndim(images[0]) in (1, 3):
            images = as_numpy(images)  # a list of pictures or of embeddings
        if hasattr(images, "__len__") and not len(images):
            raise ArgumentError(self.name, "hold at least one picture", "none")
        columns = [self._numbers(column) for column in columns]
        if hasattr(images, "shape") and images.shape and any(len(column) != len(images) for column in columns):
            raise ArgumentError(
                self.name,
                "have one identity and one camera per picture",
                f"{len(images)} pictures, {', '.join(str(len(column)) for column in columns)}",
            )
        return (images, *columns)

    def _numbers(self, column: Any) -> np.ndarray:
        """Returns identities or cameras as int64 (N,)."""
        numbers = as_numpy(column)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iub":
            raise ArgumentError(
                self.name,
                "have whole numbers for identities and cameras",
                f"dtype {numbers.dtype}, shape {numbers.shape}",
                "np.unique(names, return_inverse=True)[1], of the names of query and gallery together",
            )
        return numbers.astype(np.int64)

    def _is_no_set(self, received: str) -> ArgumentError:
        return ArgumentError(
            self.name,
            "be (pictures, identities, cameras), (pictures, identities) or a data set of these",
            received,
            ["a tuple of arrays", "a tf.data.Dataset", "a PyDataset", "a DataLoader", "an iterable of batches"],
        )


@dataclass(frozen=True, eq=False)
class EmbeddedSet:
    """Queries or a gallery, embedded.

    Attributes:
        source: What was embedded.
        vectors: float32 (N, D), the embeddings.
        identities: int64 (N,).
        cameras: int64 (N,), or None.
    """

    source: LabelledPictures
    vectors: np.ndarray
    identities: np.ndarray
    cameras: np.ndarray | None

    def __len__(self) -> int:
        return len(self.vectors)

    def pictures_at(self, indices: set[int], explainer: Explainer) -> dict[int, np.ndarray]:
        """Returns the pictures at some indices. A data set is read again.

        Raises:
            ArgumentError: If it is in another order than the first time, or these are embeddings.
        """
        if not indices:
            return {}
        name = self.source.name
        if self.source.is_read_once:
            raise _changed_order(name, "an iterator, which can be read once only", "a tf.data.Dataset")
        pictures, is_same = self._read_again(indices, explainer.batch_size)
        if any(picture.ndim < 2 for picture in pictures.values()):
            raise ArgumentError(name, "hold pictures to be explained", "embeddings")
        order = sorted(pictures)
        vectors = explainer.embed(np.stack([pictures[index] for index in order]))
        if not is_same or len(pictures) < len(indices) or not self._matches(vectors, order):
            raise _changed_order(name)
        return pictures

    def _read_again(self, indices: set[int], batch_size: int) -> tuple[dict[int, np.ndarray], bool]:
        """Returns the pictures at some indices, as far as they are there, and whether all labels are as before."""
        if self.source.is_arrays:
            images, *_ = self.source.arrays()
            self._check_single_input(images)
            return {index: as_numpy(images[index]) for index in indices}, True
        pictures: dict[int, np.ndarray] = {}
        start, is_same = 0, True
        for batch in self.source.batches(batch_size):
            self._check_single_input(batch.images)
            rows = slice(start, start + len(batch))
            is_same = is_same and np.array_equal(self.identities[rows], batch.labels)
            if batch.extra is not None and self.cameras is not None:
                is_same = is_same and np.array_equal(batch.extra, self.cameras[rows])
            pictures |= {index: batch.images[index - start] for index in indices.intersection(range(len(self))[rows])}
            start = rows.stop
            if len(pictures) == len(indices):
                break
        return pictures, is_same

    def _check_single_input(self, images: Structure) -> None:
        if not hasattr(images, "shape"):
            raise ArgumentError(self.source.name, "hold pictures of a single input to be explained", "several inputs")

    def _matches(self, vectors: np.ndarray, indices: Sequence[int]) -> bool:
        """Returns whether these embeddings match the stored rows and no other row is closer."""
        stored = self.vectors[indices].astype(np.float64)
        # Less one of them, since an untrained network gives all pictures nearly the same embedding.
        centre = stored[0]
        centred = vectors - centre
        nearest, longest = np.full(len(indices), np.inf), 0.0
        for start in range(0, len(self), _BATCH):
            rows = self.vectors[start : start + _BATCH] - centre
            lengths = np.square(rows).sum(axis=1)
            # Squared distances, less the squared length of the new embedding, which is the same for all rows.
            nearest = np.minimum(nearest, (lengths - 2 * centred @ rows.T).min(axis=1))
            longest = max(longest, float(lengths.max()))
        own = (np.square(stored - centre) - 2 * centred * (stored - centre)).sum(axis=1)
        are_close = np.allclose(vectors, stored, rtol=1e-2, atol=1e-3 * np.abs(stored).max())
        return are_close and bool((own <= nearest + 1e-3 * longest).all())


def embed_set(source: LabelledPictures, explainer: Explainer | None, progress: bool) -> EmbeddedSet:
    """Embeds a data set, a batch at a time.

    Args:
        source: Pictures or embeddings.
        explainer: Explains the network; None where embeddings are given.
        progress: Whether to show a progress bar.

    Raises:
        ArgumentError: If it cannot be embedded.
    """
    if _are_embeddings(source):
        given, identities, *rest = source.arrays()
        _check_finite(source.name, given)
        return EmbeddedSet(source, given, identities, rest[0] if rest else None)
    import keras

    total = source.length()
    size = explainer.batch_size if explainer is not None else _BATCH
    bar = keras.utils.Progbar(total) if progress and (total is None or total > size) else None
    labels: list[Any] = []
    cameras: list[Any] = []
    rows, count = np.empty((0, 0), np.float32), 0
    for batch in source.batches(size):
        rows = _with_rows(rows, count, embed_pictures(source.name, batch.images, explainer))
        labels.append(batch.labels)
        if batch.extra is not None:
            cameras.append(batch.extra)
        count += len(batch)
        if bar is not None:
            bar.update(count)
    if bar is not None and total is None:
        bar.update(count, finalize=True)
    vectors = rows[:count]
    _check_finite(source.name, vectors)
    return EmbeddedSet(source, vectors, np.concatenate(labels), np.concatenate(cameras) if cameras else None)


def _are_embeddings(source: LabelledPictures) -> bool:
    """Returns whether a set is embeddings that can be taken as they are, which may be a memory map."""
    images = source.data[0] if source.is_arrays and source.data else None
    return isinstance(images, np.ndarray) and images.ndim == 2 and images.dtype == np.float32 and len(images) > 0


def _with_rows(rows: np.ndarray, count: int, new: np.ndarray) -> np.ndarray:
    """Returns an array whose first ``count`` rows are followed by new ones; it grows in place by half."""
    if len(rows) < count + len(new):
        rows.resize((max(count + len(new), len(rows) * 3 // 2), new.shape[1]), refcheck=False)
    rows[count : count + len(new)] = new
    return rows


def _check_finite(name: str, vectors: np.ndarray) -> None:
    for start in range(0, len(vectors), _BATCH):
        if not np.isfinite(vectors[start : start + _BATCH]).all():
            raise ArgumentError(name, "have finite embeddings", "some that are not")


def embed_pictures(name: str, pictures: Structure, explainer: Explainer | None) -> np.ndarray:
    """Returns the embeddings of pictures, float32 (N, D); embeddings stay as they are.

    Raises:
        ArgumentError: If these are neither, or there is no network to embed pictures with.
    """
    if isinstance(pictures, np.ndarray) and pictures.ndim == 2:
        return pictures.astype(np.float32)
    if isinstance(pictures, np.ndarray) and pictures.ndim == 1:
        raise ArgumentError(name, "hold pictures or embeddings (N, D)", f"shape {pictures.shape}")
    if explainer is None:
        raise ArgumentError("model", "be given to embed pictures", f"None, and pictures as `{name}`")
    return explainer.embed(pictures)


def directions(vectors: np.ndarray) -> np.ndarray:
    """Scales vectors (N, D) to length one; vectors of length zero stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def check_cameras(has_query: bool, has_gallery: bool) -> None:
    """Raises ArgumentError where only one of query and gallery has cameras."""
    if has_query != has_gallery:
        raise ArgumentError(
            "gallery",
            "come with cameras where the query does; they must both come with cameras or both without",
            f"cameras of the {'query' if has_query else 'gallery'} alone",
            "Gallery((pictures, identities, cameras), query=(pictures, identities, cameras))",
        )


def _is_list_of_columns(data: Any) -> bool:
    """Returns whether a list holds pictures, identities and perhaps cameras, and not samples or pictures."""
    if not isinstance(data, list) or len(data) not in (2, 3) or isinstance(data[0], (tuple, dict)):
        return False
    return np.ndim(data[0]) >= 2 and all(np.ndim(column) == 1 for column in data[1:])


def _changed_order(
    name: str,
    received: str = "a data set that does not",
    candidates: str = "a data set without shuffling and augmentation",
) -> ArgumentError:
    requirement = "give the same pictures in the same order each time it is read, to be explained"
    return ArgumentError(name, requirement, received, candidates)
