"""Pictures from disk in batches, the next one read while the model works on the one before."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from ..console import Progress, say
from ..errors import PictureError
from .input_spec import Intake
from .pictures import Picture, decode, read_file

Item = TypeVar("Item")

Read = TypeVar("Read")


def one_ahead(read: Callable[[Item], Read], items: Sequence[Item]) -> Iterator[Read]:
    """What ``read`` makes of each item, in order; it works on the next while the caller is busy with the last."""
    with ThreadPoolExecutor(1) as ahead:
        waiting: list[Future[Read]] = []
        try:
            for item in items:
                waiting.append(ahead.submit(read, item))
                if len(waiting) > 1:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()
        finally:
            for future in waiting:
                future.cancel()


def slices(count: int, size: int) -> list[slice]:
    """The parts of ``count`` things, ``size`` at a time."""
    return [slice(start, start + size) for start in range(0, count, size)]


def threads() -> ThreadPoolExecutor:
    """Threads to read, decode, draw and encode with."""
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1))


def read_picture(path: str, intake: Intake, largest: int = 1) -> Picture | PictureError:
    """A picture, or what is wrong with it."""
    try:
        return decode(read_file(path), intake.size, intake.channels, largest)
    except PictureError as failure:
        return failure


class PictureStream:
    """Pictures as a model takes them, a batch at a time; broken ones are reported and left out.

    Args:
        paths: Of the files.
        intake: What the model takes.
        batch_size: How many at a time.
        progress: Advanced by every picture.

    Attributes:
        read: Paths of the pictures that were given out, in order.
        failures: Path to what is wrong with it.
    """

    def __init__(self, paths: Sequence[str], intake: Intake, batch_size: int, progress: Progress) -> None:
        self._paths, self._intake, self._size, self._progress = paths, intake, batch_size, progress
        self.read: list[str] = []
        self.failures: dict[str, str] = {}

    def __iter__(self) -> Iterator[np.ndarray]:
        with threads() as pool:

            def load(part: slice) -> list[Picture | PictureError]:
                return list(pool.map(lambda path: read_picture(path, self._intake), self._paths[part]))

            parts = slices(len(self._paths), self._size)
            for part, pictures in zip(parts, one_ahead(load, parts), strict=True):
                good = []
                for path, picture in zip(self._paths[part], pictures, strict=True):
                    if isinstance(picture, PictureError):
                        report_failure(path, str(picture))
                        self.failures[path] = str(picture)
                    else:
                        good.append(picture.pixels)
                        self.read.append(path)
                if good:
                    yield self._intake.preprocessing(np.stack(good).astype(np.float32))
                self._progress.advance(len(pictures))


def report_failure(path: str, failure: str) -> None:
    """One line on a picture that is left out."""
    say(f"{shown_path(path)}: {failure}")


def shown_path(path: str) -> str:
    """An absolute path, from here if that is shorter, on one line."""
    with contextlib.suppress(ValueError):  # on another drive
        path = min(os.path.relpath(path), path, key=len)
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in path)
