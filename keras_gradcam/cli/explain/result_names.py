"""What the results of each picture are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files import safe_name


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
