"""Picture files read by several threads, the next ones while the model works on the ones before."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..errors import PictureError
from ..files import check_file
from .decoding import Picture, decode
from .spec import LARGEST_PICTURE, PictureSpec

Item = TypeVar("Item")

Read = TypeVar("Read")


def read_file(path: str, largest: int = LARGEST_PICTURE) -> bytes:
    """Reads a file of up to ``largest`` bytes.

    Raises:
        PictureError: If it cannot be read.
    """
    try:
        check_file(path, largest)
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        hint = ". Candidates: `max_file_size`" if error.errno == errno.EFBIG else ""
        raise PictureError(f"cannot be read: {error.strerror or error}{hint}") from error


def read_picture(path: str, spec: PictureSpec, largest: int = 1) -> Picture | PictureError:
    """Reads a picture; returns what is wrong with it where it cannot be read."""
    try:
        return decode(read_file(path, spec.most_bytes), spec.size, spec.channels, largest, spec.values)
    except PictureError as error:
        return error


def read_pictures(
    paths: Sequence[str], spec: PictureSpec, batch_size: int
) -> Iterator[list[tuple[str, Picture | PictureError]]]:
    """Reads pictures, one batch ahead; yields batches of paths with pictures, or with what is wrong with them."""
    with threads() as pool:

        def load(rows: slice) -> list[tuple[str, Picture | PictureError]]:
            return list(zip(paths[rows], pool.map(lambda path: read_picture(path, spec), paths[rows]), strict=True))

        yield from one_ahead(load, slices(len(paths), batch_size))


def one_ahead(read: Callable[[Item], Read], items: Iterable[Item]) -> Iterator[Read]:
    """Yields what ``read`` returns for each item, in order; it reads the next one while the caller uses the last."""
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
    """Returns slices of ``size`` that together cover ``count`` items."""
    return [slice(start, start + size) for start in range(0, count, size)]


def threads() -> ThreadPoolExecutor:
    """Returns a pool of threads to read, decode, draw and encode with."""
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1))
