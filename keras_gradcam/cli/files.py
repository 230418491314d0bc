"""Files of results: JSON, names that every file system takes, and whether a folder can be written to."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..files import check_writable
from .errors import CommandError

#: The largest picture, and the largest file of names or configuration of a model, that is read, in bytes.
LARGEST_PICTURE, LARGEST_TEXT = 256 << 20, 64 << 20

#: The size of a file in bytes, and when it was last changed, in nanoseconds.
FileStatus = tuple[int, int]

# The coarsest clock of a file system (FAT), in nanoseconds, and some more.
_TICK = 3_000_000_000

# Counted in bytes, with room for the longest suffix within the 255 that file systems allow.
_LONGEST = 150


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


def as_json(value: Any) -> bytes:
    """Returns JSON on one line."""
    # The name of a file that is no valid text holds lone surrogates; escaped they are still JSON.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


def json_parts(header: Mapping[str, Any], lists: Mapping[str, Iterable[bytes]]) -> Iterator[bytes]:
    """Yields a JSON object, part by part: a line for each key, and a line for each entry of long lists.

    Args:
        header: Keys with their values.
        lists: Keys with their lists, each entry as JSON.

    Example:
        >>> print(b"".join(json_parts({"a": 1}, {"b": [b"2", b"3"]})).decode(), end="")
        {
         "a": 1,
         "b": [
          2,
          3
         ]
        }
    """
    yield b"{"
    comma = b""
    for key, value in header.items():
        yield comma + b"\n " + as_json(key) + b": " + as_json(value)
        comma = b","
    for key, entries in lists.items():
        yield comma + b"\n " + as_json(key) + b": ["
        comma = b""
        for entry in entries:
            yield comma + b"\n  " + entry
            comma = b","
        yield b"\n ]"
        comma = b","
    yield b"\n}\n"


def safe_name(text: str) -> str:
    """Returns a name for a file, as near to ``text`` as all file systems allow.

    Example:
        >>> safe_name("my cat: 1/2"), safe_name("..."), safe_name("Katze äöü 猫")
        ('my cat_ 1_2', '_', 'Katze äöü 猫')
    """
    name = "".join(letter if letter.isprintable() and not "\ud800" <= letter <= "\udfff" else "_" for letter in text)
    name = re.sub(r'[<>:"/\\|?*]', "_", name).strip(" .") or "_"
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)", name) or name.startswith("-"):
        name = f"_{name}"
    return name.encode()[:_LONGEST].decode(errors="ignore").rstrip(" .")


def check_out(folder: Path, typed: str | None = None) -> None:
    """Raises CommandError if results cannot be written to ``folder``.

    Args:
        folder: The folder; it may not exist yet, and is not made.
        typed: What --out was given, for the message; by default what cannot be written to.
    """
    try:
        check_writable(folder)
    except OSError as error:
        raise CommandError(f"--out cannot be written to: {error.strerror}: {(typed or error.filename)!r}.") from error
