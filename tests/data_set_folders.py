"""Folders of pictures and of results, for tests of data sets."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from cli_models import jpeg_bytes

#: When the pictures were last changed, in seconds.
LONG_AGO = 1_000_000_000


def write_pictures(folder: Path, count: int, broken=()) -> Path:
    """Writes pictures p000.jpg and so on that were last changed long ago."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        path = folder / f"p{number:03d}.jpg"
        path.write_bytes(b"broken" if number in broken else jpeg_bytes(number))
        os.utime(path, (LONG_AGO, LONG_AGO))
    return folder


def rows_of(folder: Path) -> dict[str, dict]:
    """All rows of a folder of results by their ids; fails if one is there twice."""
    import pyarrow.parquet

    rows: dict[str, dict] = {}
    for path in sorted(folder.glob("*.parquet")):
        for row in pyarrow.parquet.read_table(path).to_pylist():
            assert row["id"] not in rows, f"{row['id']} is there twice"
            rows[row["id"]] = row
    return rows


def assert_same_rows(first: dict[str, dict], second: dict[str, dict]) -> None:
    """Fails unless both have the same rows, to the last bit."""
    assert first.keys() == second.keys()
    for name, row in first.items():
        assert row.keys() == second[name].keys()
        for column, value in row.items():
            np.testing.assert_array_equal(value, second[name][column], err_msg=f"{name}, {column}")
