"""Files of results: JSON, names that every file system takes, and whether a folder can be written to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..files import check_writable
from .errors import CommandError

#: The largest file of names or configuration of a model that is read, in bytes.
LARGEST_TEXT = 64 << 20

# Counted in bytes, with room for the longest suffix within the 255 that file systems allow.
_LONGEST = 150


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


def check_png(text: str) -> Path:
    """Returns the file that --out names for a drawing.

    Raises:
        CommandError: If it is no .png file in a folder that is there.
    """
    path = Path(text).expanduser()
    if path.suffix.lower() != ".png":
        raise CommandError(f"--out must be a .png file. Received: {text!r}.")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise CommandError(f"--out must be a file in a folder that is there. Received: {text!r}.")
    check_out(path.absolute().parent, text)
    return path
