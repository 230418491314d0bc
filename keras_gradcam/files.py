"""Files that are whole or not there. Standard library only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

#: What the name of a file ends in while it is written.
UNFINISHED = ".unfinished"


def replace_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Writes a file under another name and then renames it: nobody ever sees half of it.

    Args:
        path: The file; what was there is replaced.
        content: As a whole or in parts.

    Raises:
        OSError: If it cannot be written; nothing is left then.
    """
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
        unfinished.replace(path)
    except BaseException:  # an interruption too
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
