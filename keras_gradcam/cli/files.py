"""What is in a folder of results: JSON, names that every file system takes, and what a killed process left."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..files import UNFINISHED

# Counted in bytes, with room for the longest suffix within the 255 that file systems allow.
_LONGEST = 150


def remove_unfinished(folder: Path) -> None:
    """Removes what a killed process left half-written."""
    for path in folder.glob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True)


def as_json(value: Any) -> bytes:
    """JSON on one line."""
    # A name of a file that is no valid text holds lone surrogates; so written they are still JSON.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


def json_parts(header: Mapping[str, Any], lists: Mapping[str, Iterable[bytes]]) -> Iterator[bytes]:
    """A JSON object, part by part: a line for each key, and a line for each entry of long lists.

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
    """A name for a file, as near to ``text`` as all file systems allow.

    Example:
        >>> safe_name("my cat: 1/2"), safe_name("..."), safe_name("Katze äöü 猫")
        ('my cat_ 1_2', '_', 'Katze äöü 猫')
    """
    name = "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "_" for c in text)
    name = re.sub(r'[<>:"/\\|?*]', "_", name).strip(" .") or "_"
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)", name) or name.startswith("-"):
        name = f"_{name}"
    return name.encode()[:_LONGEST].decode(errors="ignore").rstrip(" .")


def check_writable(folder: Path) -> None:
    """Raises OSError if ``folder`` cannot be written to; it may not exist yet, and is not made."""
    if folder.exists():
        if not folder.is_dir():
            raise NotADirectoryError(20, "Not a folder", str(folder))
        attempt = folder / f".writable-{os.getpid()}"
        attempt.touch()
        attempt.unlink()
        return
    above = next(one for one in folder.absolute().parents if one.exists())
    if not above.is_dir():
        raise NotADirectoryError(20, "Not a folder", str(above))
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(13, "Permission denied", str(above))
