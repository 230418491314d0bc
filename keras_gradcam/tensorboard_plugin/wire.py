"""Packs the binary answers of the server: a JSON header, followed by arrays or byte strings.

::

    "GCT1"   uint32 length of the header   header (JSON, padded with spaces)   parts, each padded to 8 bytes

All numbers are little-endian; ``parts`` in the header gives ``[offset, length]`` of each part in bytes, counted from
the end of the header.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

MAGIC = b"GCT1"

_ALIGNMENT = 8


def pack(header: Mapping[str, Any], parts: Sequence[bytes]) -> bytes:
    """Joins a header and parts into one byte string.

    Example:
        >>> unpack(pack({"name": "a"}, [b"12", b""]))
        ({'name': 'a'}, [b'12', b''])
    """
    ranges, end = [], 0
    for part in parts:
        ranges.append([end, len(part)])
        end += _padded(len(part))
    text = json.dumps({**header, "parts": ranges}, separators=(",", ":")).encode()
    text += b" " * (_padded(len(text) + 8) - len(text) - 8)
    chunks = [MAGIC, struct.pack("<I", len(text)), text]
    for part in parts:
        chunks += [part, bytes(_padded(len(part)) - len(part))]
    return b"".join(chunks)


def unpack(body: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Splits what :func:`pack` joined into its header and its parts.

    Raises:
        ValueError: If ``body`` is no such byte string.
    """
    if body[:4] != MAGIC:
        raise ValueError(f"Expected an answer that begins with {MAGIC!r}. Received: {body[:4]!r}.")
    (length,) = struct.unpack_from("<I", body, 4)
    header = json.loads(body[8 : 8 + length])
    begin = 8 + length
    return header, [body[begin + offset : begin + offset + size] for offset, size in header.pop("parts")]


def _padded(length: int) -> int:
    return -(-length // _ALIGNMENT) * _ALIGNMENT
