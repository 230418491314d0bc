"""Which picture files are meant by files, folders and patterns."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import ArgumentError, printable

#: Endings of the files that are pictures in a folder; a file that is named itself may have any ending.
EXTENSIONS = frozenset(
    f".{kind}"
    for kind in (
        *("avif", "bmp", "gif", "jfif", "jp2", "jpe", "jpeg", "jpg", "pbm", "pgm"),
        *("png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)


def find_pictures(words: Sequence[str], without: str | Path | None = None, name: str = "images") -> list[str]:
    """Finds the absolute paths of all pictures that files, folders and patterns name, each once, in a fixed order.

    Args:
        words: Files, folders and patterns.
        without: A folder whose pictures are results, not inputs.
        name: The argument that errors are about.

    Raises:
        ArgumentError: If a word names nothing.
    """
    results = None if without is None else os.path.realpath(without)
    paths: dict[str, None] = {}
    for word in map(os.path.expanduser, words):
        matches = [word]
        if not os.path.lexists(word) and glob.has_magic(word):
            matches = sorted(glob.glob(word, recursive=True))
            if not matches:
                raise ArgumentError(name, "be there", f"{word!r}, which no file matches")
        of_word: list[str] = []
        for match in matches:
            if os.path.isdir(match):
                if results == os.path.realpath(match):
                    raise ArgumentError("out", "not be a folder of pictures to explain", f"{match!r} as both")
                of_word += _in_folder(match, results)
            elif match != word and Path(match).suffix.lower() not in EXTENSIONS:
                continue  # a pattern such as photos/* matches other things too
            elif not os.path.lexists(match):
                raise ArgumentError(name, "be there", f"{match!r}, no such file or folder")
            else:
                of_word.append(match)
        if not of_word:
            kinds = ", ".join(sorted(EXTENSIONS))
            raise ArgumentError(name, "hold pictures", f"{word!r}, which holds none ({kinds})")
        paths.update(dict.fromkeys(os.path.abspath(path) for path in of_word))
    return list(paths)


def _in_folder(folder: str, without: str | None) -> Iterator[str]:
    """Finds pictures in a folder and the folders in it. Links are followed, but no folder is entered twice."""
    seen: set[tuple[int, int]] = set()

    def unreadable(error: OSError) -> None:
        warnings.warn(
            printable(f"{error.strerror}: {error.filename!r}; what is in it is left out"), UserWarning, stacklevel=2
        )

    for here, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen or os.path.realpath(here) == without:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        for name in sorted(files):
            # macOS leaves files such as ._cat.jpg, which are no pictures, beside pictures.
            if os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith("."):
                yield os.path.join(here, name)
