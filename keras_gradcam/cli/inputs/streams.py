"""Pictures from disk in batches: the next one is read while the model works on the one before."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import numpy as np

from ...errors import PictureError
from ...pictures.decoding import Picture
from ...pictures.reading import read_pictures
from ...pictures.spec import PictureSpec
from ..console import Progress, print_message
from ..errors import in_options


class PictureStream:
    """Pictures as a model takes them, a batch at a time; broken ones are reported and left out.

    Args:
        paths: The files.
        spec: The pictures that the model takes.
        batch_size: The largest number of pictures in a batch.
        progress: Advanced by every picture.

    Attributes:
        read: Paths of the pictures that were yielded, in order.
        failures: Path of each picture that was left out to what is wrong with it.
    """

    def __init__(self, paths: Sequence[str], spec: PictureSpec, batch_size: int, progress: Progress) -> None:
        self._paths, self._spec, self._batch_size, self._progress = paths, spec, batch_size, progress
        self.read: list[str] = []
        self.failures: dict[str, str] = {}
        self._notes = DepthNotes(spec)

    def __iter__(self) -> Iterator[np.ndarray]:
        for pictures in read_pictures(self._paths, self._spec, self._batch_size):
            good = []
            for path, picture in pictures:
                if isinstance(picture, PictureError):
                    self.failures[path] = in_options(str(picture))
                    report_failure(path, self.failures[path])
                else:
                    self._notes.add(path, picture)
                    good.append(picture.pixels)
                    self.read.append(path)
            if good:
                yield self._spec.preprocessing(np.stack(good).astype(np.float32))
            self._progress.advance(len(pictures))


class DepthNotes:
    """Says of the first picture of more than 8 bits what was done to its values, unless that was asked for.

    Args:
        spec: The pictures that the model takes.
    """

    def __init__(self, spec: PictureSpec) -> None:
        self._is_said = spec.values is not None

    def add(self, path: str, picture: Picture) -> None:
        """Takes note of a picture, and speaks of it if it is the first such."""
        if picture.depth and not self._is_said:
            self._is_said = True
            is_grey = picture.pixels.dtype.kind == "f"
            print_message(
                f"note: {shown_path(path)}: {picture.depth} (said of the first such picture)."
                + (" Candidates: --range LOW,HIGH, what is black and white; --range raw." if is_grey else "")
            )


def report_failure(path: str, failure: str) -> None:
    """Prints one line about a picture that is left out."""
    print_message(f"{shown_path(path)}: {failure}")


def shown_path(path: str) -> str:
    """Returns an absolute path, relative to the current folder if that is shorter, on one line."""
    with contextlib.suppress(ValueError):  # on another drive
        path = min(os.path.relpath(path), path, key=len)
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in path)
