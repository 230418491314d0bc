"""Appends records to an event file in the TFRecord framing, and reads them back, without TensorFlow.

A record is its length (uint64, little-endian), the masked checksum of these 8 bytes (uint32), the data, and the masked
checksum of the data (uint32). The checksum is CRC-32C (Castagnoli).

Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Protocol

import google_crc32c

_MASK_DELTA = 0xA282EAD8


class BinaryFile(Protocol):
    """What a :class:`RecordWriter` needs of a file."""

    def write(self, content: bytes) -> object:
        """Takes bytes to be appended."""

    def flush(self) -> None:
        """Makes everything taken so far visible to other processes."""

    def exists(self) -> bool:
        """Returns whether the file is still where it was created, and was not replaced."""

    def close(self) -> None:
        """Flushes and releases the file."""


def masked_crc32c(data: bytes) -> int:
    """Returns the checksum of ``data`` as TFRecord files store it: CRC-32C, rotated and shifted by a constant.

    The mask keeps the checksum of data that hold checksums themselves from being degenerate.

    Example:
        >>> hex(masked_crc32c(b"123456789"))
        '0xc78ab0e5'
    """
    checksum = google_crc32c.value(data)
    return ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & 0xFFFFFFFF


def read_records(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yields the records of a local file in order, up to its end or to where it was torn or damaged.

    Raises:
        OSError: If the file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while len(head := file.read(12)) == 12:
            length, checksum = struct.unpack("<QI", head)
            if checksum != masked_crc32c(head[:8]) or length > size:  # never more than the file may hold
                return
            record, tail = file.read(length), file.read(4)
            if len(tail) < 4 or struct.unpack("<I", tail)[0] != masked_crc32c(record):
                return
            yield record


class RecordWriter:
    """Appends records to a file.

    Args:
        file: A binary file that was opened for writing.
    """

    def __init__(self, file: BinaryFile) -> None:
        self._file = file

    def write(self, record: bytes) -> None:
        """Writes one record after those before."""
        length = struct.pack("<Q", len(record))
        head = length + struct.pack("<I", masked_crc32c(length))
        self._file.write(head + record + struct.pack("<I", masked_crc32c(record)))

    def flush(self) -> None:
        """Makes all records so far readable by other processes."""
        self._file.flush()

    def exists(self) -> bool:
        """Returns whether what is written can still be found under the file's name."""
        return self._file.exists()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.close()
