"""What is ranked: pictures with identities and cameras, embedded a portion at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer
from ..errors import ArgumentError


@dataclass(frozen=True, eq=False)
class Entries:
    """Queries or a gallery.

    Attributes:
        name: "query" or "gallery".
        given: What the user gave.
        vectors: float32 (N, D), the embeddings.
        identities: int (N,).
        cameras: int (N,), or None.
    """

    name: str
    given: Any
    vectors: np.ndarray
    identities: np.ndarray
    cameras: np.ndarray | None

    def __len__(self) -> int:
        return len(self.vectors)

    def pictures_at(self, wanted: set[int], explainer: Explainer) -> dict[int, np.ndarray]:
        """The pictures at some positions. A dataset is read again.

        Raises:
            ValueError: If it is in another order than the first time, or these are embeddings.
        """
        if not wanted:
            return {}
        same = True
        if isinstance(self.given, (tuple, list)):
            found = {place: np.asarray(self.given[0][place]) for place in wanted}
        else:
            found, position = {}, 0
            for pictures, people, views in portions(self.name, self.given, explainer.batch_size):
                part = slice(position, position + len(pictures))
                same = same and np.array_equal(people, self.identities[part])
                same = same and (views is None or self.cameras is None or np.array_equal(views, self.cameras[part]))
                found.update(
                    {place: pictures[place - position] for place in wanted.intersection(range(len(self))[part])}
                )
                position += len(pictures)
                if len(found) == len(wanted):
                    break
        if any(picture.ndim < 2 for picture in found.values()):
            raise ValueError(f"`{self.name}` must hold pictures to be explained. Received: embeddings.")
        places = sorted(found)
        again = explainer.embed(np.stack([found[place] for place in places]))
        if not same or len(found) < len(wanted) or not self._are_at(again, places):
            raise ValueError(
                f"`{self.name}` must give the same pictures in the same order each time it is read, to be explained. "
                "Received: a dataset that does not. Candidates: a dataset without shuffling and augmentation."
            )
        return found

    def _are_at(self, again: np.ndarray, places: list[int]) -> bool:
        """Whether embeddings are those at some places: alike, and nowhere nearer to others that may lie close."""
        before = self.vectors[places]
        centre = self.vectors.mean(axis=0)
        rows, found = self.vectors - centre, again - centre
        lengths = np.square(rows).sum(axis=1)
        squares = lengths - 2 * found @ rows.T  # of the distances, but for the length of what was found
        own = squares[np.arange(len(places)), places]
        alike = np.allclose(again, before, rtol=1e-2, atol=1e-3 * np.abs(before).max())
        return alike and bool((own <= squares.min(axis=1) + 1e-3 * lengths.max()).all())


def embedded(name: str, given: Any, explainer: Explainer | None, progress: bool) -> Entries:
    """Embeds what was given, a portion at a time.

    Raises:
        ValueError: If it cannot be embedded.
    """
    import keras

    total = _length(given)
    portion = explainer.batch_size if explainer is not None else 1024
    bar = keras.utils.Progbar(total) if progress and (total is None or total > portion) else None
    vectors, identities, cameras = [], [], []
    done = 0
    for pictures, people, views in portions(name, given, portion):
        vectors.append(vectors_of(name, pictures, explainer))
        identities.append(people)
        if views is not None:
            cameras.append(views)
        done += len(people)
        if bar is not None:
            bar.update(done)
    if not done:
        raise ValueError(f"`{name}` must hold at least one picture. Received: none.")
    if bar is not None and total is None:
        bar.update(done, finalize=True)
    rows = np.concatenate(vectors)
    if not np.isfinite(rows).all():
        raise ValueError(f"`{name}` must have finite embeddings. Received: some that are not.")
    return Entries(name, given, rows, np.concatenate(identities), np.concatenate(cameras) if cameras else None)


def vectors_of(name: str, pictures: np.ndarray, explainer: Explainer | None) -> np.ndarray:
    """(N, D), embeddings of pictures; embeddings stay as they are."""
    if pictures.ndim == 2:
        return pictures.astype(np.float32)
    if pictures.ndim == 1:
        raise ValueError(f"`{name}` must hold pictures or embeddings (N, D). Received: shape {pictures.shape}.")
    if explainer is None:
        raise ArgumentError("model", "be given to embed pictures", f"None, and pictures as `{name}`")
    return explainer.embed(pictures)


def _length(given: Any) -> int | None:
    """How many entries there are, where that can be known beforehand."""
    return len(given[0]) if isinstance(given, (tuple, list)) and given and hasattr(given[0], "__len__") else None


def portions(name: str, given: Any, size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Pictures, identities and cameras, about ``size`` at a time."""
    if isinstance(given, (tuple, list)) and len(given) in (2, 3):
        pictures, *labels = given
        if not (hasattr(pictures, "__len__") and hasattr(pictures, "__getitem__")):
            raise ValueError(
                f"`{name}` must hold pictures or embeddings as an array. Received: {type(pictures).__name__}. "
                "Candidates: a NumPy array, a tf.data.Dataset of (pictures, identities, cameras)."
            )
        if not len(pictures):
            raise ValueError(f"`{name}` must hold at least one picture. Received: none.")
        columns = [_labels(name, column) for column in labels]
        if any(len(column) != len(pictures) for column in columns):
            raise ValueError(
                f"`{name}` must have one identity and one camera per picture. "
                f"Received: {len(pictures)} pictures, {', '.join(str(len(column)) for column in columns)}."
            )
        for start in range(0, len(pictures), size):
            part = slice(start, start + size)
            cut = [column[part] for column in columns]
            yield np.asarray(pictures[part]), cut[0], cut[1] if len(cut) > 1 else None
        return
    if not hasattr(given, "element_spec"):
        raise ValueError(
            f"`{name}` must be (pictures, identities, cameras), (pictures, identities) or a tf.data.Dataset of these. "
            f"Received: {type(given).__name__}."
        )
    spec = given.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3) or not all(hasattr(one, "shape") for one in spec):
        raise ValueError(
            f"`{name}` must give (pictures, identities) or (pictures, identities, cameras). Received: {spec}."
        )
    batched = given if spec[1].shape.rank else given.batch(size)
    for pictures, *labels in batched.as_numpy_iterator():
        columns = [_labels(name, column) for column in labels]
        yield pictures, columns[0], columns[1] if len(columns) > 1 else None


def _labels(name: str, column: Any) -> np.ndarray:
    numbers = np.asarray(column)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iub":
        raise ValueError(
            f"`{name}` must have whole numbers for identities and cameras. "
            f"Received: dtype {numbers.dtype}, shape {numbers.shape}. "
            "Candidates: np.unique(names, return_inverse=True)[1], of the names of query and gallery together."
        )
    return numbers.astype(np.int64)


def check_cameras(of_query: bool, of_gallery: bool) -> None:
    """Raises ValueError where only one side has cameras."""
    if of_query != of_gallery:
        raise ValueError(
            "`query` and `gallery` must both come with cameras or both without. "
            f"Received: cameras of the {'query' if of_query else 'gallery'} alone. "
            "Candidates: Gallery((pictures, identities, cameras), query=(pictures, identities, cameras))."
        )
