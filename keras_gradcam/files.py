"""Files that are whole or not there, and folders that one process at a time writes to. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# The name of a file while it is written: random, so that nobody can have put a link there.
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{16}\.unfinished")

#: The size of a file in bytes, and when it was last changed, in nanoseconds.
FileStatus = tuple[int, int]

# The coarsest clock of a file system (FAT), in nanoseconds, and some more.
_TICK = 3_000_000_000

# Number to handle of each locked folder. A forked process must not hold on to them when this one is gone.
_locks: dict[int, int] = {}
_numbers = itertools.count()


def replace_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Writes a file under another name and then renames it: nobody ever sees half of it.

    A link of that name is replaced, not followed.

    Args:
        path: The file; what was there is replaced.
        content: As a whole or in parts.

    Raises:
        OSError: If it cannot be written; nothing is left then.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}.unfinished")
    try:
        with unfinished.open("xb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
        unfinished.replace(path)
    except BaseException:  # an interruption too
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def remove_unfinished(folder: Path) -> None:
    """Removes the files that a process was writing by :func:`replace_whole` when it was killed."""
    for path in folder.iterdir():
        if _UNFINISHED.fullmatch(path.name):
            with contextlib.suppress(OSError):  # a folder of this name is not ours
                path.unlink(missing_ok=True)


def open_regular(path: Path, mode: str = "rb") -> Any:
    """Opens a binary file that exists; refuses links, pipes and devices.

    Args:
        path: The file.
        mode: As for ``open``, such as "rb" or "r+b".

    Raises:
        OSError: If there is no such file, or something else of this name.
    """

    def opener(name: str, flags: int) -> int:
        # A pipe would wait for another process when it is opened.
        handle = os.open(name, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "Not a regular file", str(name))
        return handle

    return open(path, mode, opener=opener)


def check_file(path: str | os.PathLike[str], largest: int | None = None) -> None:
    """Checks that a path leads to a regular file that is not too large, without opening it.

    Args:
        path: The file; links are followed.
        largest: The number of bytes that it may have, or None for any number.

    Raises:
        OSError: If there is no such file, or if it is a folder, a pipe or a device, which might never end.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    if largest is not None and status.st_size > largest:
        raise OSError(errno.EFBIG, f"has {_in_mb(status.st_size)} MB, more than {_in_mb(largest)}", str(path))


def _in_mb(size: int) -> int:
    return -(-size // (1 << 20))


def file_status(path: str | os.PathLike[str]) -> FileStatus | None:
    """Returns the size and the time of the last change of a file.

    While they stay as they are, so does the content. They are None for a file that was changed a moment ago, since it
    could be changed again within one tick of the file system's clock, and for one that is not there.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    is_settled = time.time_ns() - status.st_mtime_ns > _TICK
    return (status.st_size, status.st_mtime_ns) if is_settled else None


def file_digest(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file, which is read bit by bit."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def check_writable(folder: Path) -> None:
    """Raises OSError if ``folder`` cannot be written to; it may not exist yet, and is not made."""
    if folder.exists():
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "Not a folder", str(folder))
        attempt = folder / f".writable-{secrets.token_hex(8)}"
        attempt.touch(exist_ok=False)
        attempt.unlink()
        return
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a folder", str(above))
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "Permission denied", str(above))


def lock_folder(folder: str | os.PathLike[str]) -> int | None:
    """Locks a folder, so that one process at a time writes to it, until :func:`unlock_folder`.

    Returns:
        What :func:`unlock_folder` takes, or None where there are no such locks: on Windows, on some
        network file systems.

    Raises:
        BlockingIOError: If the folder is locked already.
        OSError: If there is no such folder.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:
        os.close(handle)
        return None
    number = next(_numbers)
    _locks[number] = handle
    return number


def is_used_by_another_process(folder: str | os.PathLike[str]) -> bool:
    """Returns whether another process holds the lock of a folder."""
    try:
        status = os.stat(folder)
        if any(os.path.samestat(os.fstat(handle), status) for handle in _locks.values()):
            return False
        unlock_folder(lock_folder(folder))
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def unlock_folder(lock: int | None) -> None:
    """Releases a folder that :func:`lock_folder` has locked, unless that was done already."""
    if lock in _locks:
        os.close(_locks.pop(lock))


def _forget_locks() -> None:
    for lock in list(_locks):
        unlock_folder(lock)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)
