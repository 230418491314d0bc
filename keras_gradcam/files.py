"""Files that are whole or not there, and whether a folder can be written to. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

# What the name of a file ends in while it is written.
_UNFINISHED = ".unfinished"


def replace_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Writes a file under another name and then renames it: nobody ever sees half of it.

    Args:
        path: The file; what was there is replaced.
        content: As a whole or in parts.

    Raises:
        OSError: If it cannot be written; nothing is left then.
    """
    unfinished = path.with_name(f".{path.name}{_UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
        unfinished.replace(path)
    except BaseException:  # an interruption too
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def remove_unfinished(folder: Path) -> None:
    """Removes the files that a process was writing by :func:`replace_whole` when it was killed."""
    for path in folder.glob(f".*{_UNFINISHED}"):
        path.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Raises OSError if ``folder`` cannot be written to; it may not exist yet, and is not made."""
    if folder.exists():
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "Not a folder", str(folder))
        attempt = folder / f".writable-{os.getpid()}"
        attempt.touch()
        attempt.unlink()
        return
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a folder", str(above))
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "Permission denied", str(above))
