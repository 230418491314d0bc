"""Which pictures are meant, and what their results are called."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..console import print_message
from ..errors import CommandError
from ..files import safe_name

#: Endings of the files that are pictures in a folder; a file that is named itself may have any ending.
EXTENSIONS = frozenset(
    f".{kind}"
    for kind in (
        *("avif", "bmp", "gif", "jfif", "jp2", "jpe", "jpeg", "jpg", "pbm", "pgm"),
        *("png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)


def find_pictures(words: Sequence[str], without: str | Path | None = None) -> list[str]:
    """Finds the absolute paths of all pictures that files, folders and patterns name, each once, in a fixed order.

    Args:
        words: Files, folders and patterns as typed.
        without: A folder whose pictures are results, not inputs.

    Raises:
        CommandError: If a word names nothing.
    """
    results = None if without is None else os.path.realpath(without)
    paths: dict[str, None] = {}
    for word in map(os.path.expanduser, words):
        matches = [word]
        if not os.path.lexists(word) and glob.has_magic(word):
            matches = sorted(glob.glob(word, recursive=True))
            if not matches:
                raise CommandError(f"no file matches {word!r}.")
        of_word: list[str] = []
        for match in matches:
            if os.path.isdir(match):
                if results == os.path.realpath(match):
                    raise CommandError(
                        f"--out must not be a folder of pictures to explain. Received: {match!r} as both."
                    )
                of_word += _in_folder(match, results)
            elif match != word and Path(match).suffix.lower() not in EXTENSIONS:
                continue  # a pattern such as photos/* matches other things too
            elif not os.path.lexists(match):
                raise CommandError(f"no such file or folder: {match!r}.")
            else:
                of_word.append(match)
        if not of_word:
            raise CommandError(f"{word!r} holds no pictures ({', '.join(sorted(EXTENSIONS))}).")
        paths.update(dict.fromkeys(os.path.abspath(path) for path in of_word))
    return list(paths)


def _in_folder(folder: str, without: str | None) -> Iterator[str]:
    """Finds pictures in a folder and the folders in it. Links are followed, but no folder is entered twice."""
    seen: set[tuple[int, int]] = set()

    def unreadable(error: OSError) -> None:
        print_message(f"warning: {error.strerror}: {error.filename!r}; what is in it is left out")

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


def result_names(paths: Sequence[str], earlier: Mapping[str, str]) -> list[str]:
    """Names the results of each picture: as the picture, with its folder's name where several are called alike.

    Args:
        paths: Absolute, each once.
        earlier: Path to the name that an earlier run has given.

    Example:
        >>> result_names(["/a/x.jpg", "/b/x.jpg", "/b/y.jpg", "/b/y.png"], {})
        ['a_x', 'b_x', 'b_y', 'b_y-2']
    """
    stems = [safe_name(Path(path).stem) for path in paths]
    # File systems may not tell upper from lower case.
    counts = Counter(stem.casefold() for stem in stems)
    used = {name.casefold() for name in earlier.values()}
    names = []
    for path, stem in zip(paths, stems, strict=True):
        if path in earlier:
            names.append(earlier[path])
            continue
        name = stem
        if counts[stem.casefold()] > 1 or stem.casefold() in used:
            name = safe_name(f"{Path(path).parent.name}_{stem}")
        candidate, number = name, 1
        while candidate.casefold() in used:
            number += 1
            candidate = f"{name}-{number}"
        used.add(candidate.casefold())
        names.append(candidate)
    return names
