"""Rows of results in Parquet files: written whole or not at all, listed, and removed when they are outdated."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import in_one_line
from ..extras import import_pyarrow
from ..files import FileStatus, check_file, replace_whole
from .columns import BYTES, FAILURE, ID, MODIFIED

# Keeps bit for bit what 16 bits held: zstd finds the zeros of the other half.
_COMPRESSION = {"compression": "zstd", "compression_level": 1}

# Whole numbers below which nothing is known.
_NUMBERS = ("class", "predicted", BYTES, MODIFIED)


def to_table(rows: Mapping[str, np.ndarray]) -> Any:
    """Returns rows as a pyarrow table that pandas, DuckDB and Spark read.

    Maps and embeddings become lists of 32-bit floating point numbers, row by row (C order): not all of these programs
    know 16 bits or shapes; the shape of each map is in the metadata of the file. What is missing (NaN, class -1, an
    empty failure) is null.
    """
    pyarrow = import_pyarrow()
    arrays, shapes = {}, {}
    failed = rows[FAILURE] != ""
    for name, values in rows.items():
        if values.ndim > 1:
            shapes[name] = list(values.shape[1:])
            arrays[name] = _lists(values, failed & np.isnan(values).all(axis=tuple(range(1, values.ndim))))
        elif name in _NUMBERS:
            arrays[name] = pyarrow.array(values, mask=values < 0)
        elif name == FAILURE:
            arrays[name] = pyarrow.array(values, pyarrow.string(), mask=~failed)
        elif name in (ID, "layer"):
            arrays[name] = pyarrow.array(values.tolist(), pyarrow.string())
        else:
            arrays[name] = pyarrow.array(values, from_pandas=True)
    table = pyarrow.table(arrays)
    return table.replace_schema_metadata({"keras_gradcam": json.dumps({"shapes": shapes})})


def _lists(values: np.ndarray, missing: np.ndarray) -> Any:
    """Returns arrays, one for each row, as lists of numbers; null where they are missing."""
    pyarrow = import_pyarrow()
    kind = np.float32 if values.dtype.kind == "f" else values.dtype
    length = int(np.prod(values.shape[1:]))
    lengths = np.where(missing, 0, length)
    offsets = pyarrow.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), pyarrow.int32())
    flat = pyarrow.array(values[~missing].astype(kind).ravel())
    return pyarrow.ListArray.from_arrays(offsets, flat, mask=pyarrow.array(missing))


class ShardFolder:
    """A folder of Parquet files, of which those of one part of the run are written by this process.

    A file is called after the ids of its rows, so that what is written twice, by a task that is repeated, is there
    once.

    Args:
        folder: It exists.
        part: The name of the part, such as "0003-of-0016"; "" for the whole.
    """

    def __init__(self, folder: Path, part: str = "") -> None:
        self.folder = folder
        self.prefix = f"part-{part}-" if part else "part-"

    def files(self) -> list[Path]:
        """Returns the files of this part, in a fixed order."""
        return sorted(self.folder.glob(f"{self.prefix}*.parquet"))

    def write(self, rows: Mapping[str, np.ndarray]) -> Path:
        """Writes rows to a file of their own.

        Raises:
            OSError: If it cannot be written; nothing is left then.
        """
        return self._write_table(to_table(rows))

    def _write_table(self, table: Any) -> Path:
        pyarrow = import_pyarrow()
        digest = hashlib.blake2b("\0".join(sorted(table[ID].to_pylist())).encode("utf-8", "surrogatepass"))
        path = self.folder / f"{self.prefix}{digest.hexdigest()[:16]}.parquet"
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(table, buffer, use_dictionary=["layer"], **_COMPRESSION)
        replace_whole(path, buffer.getvalue())
        return path

    def remove(self, ids: Iterable[str], among: Sequence[Path] | None = None) -> None:
        """Removes rows, by writing the files that hold them anew.

        Args:
            ids: Those of the rows.
            among: The files to look in; by default all.
        """
        pyarrow = import_pyarrow()
        outdated = pyarrow.array(list(ids), pyarrow.string())
        for path in (self.files() if among is None else among) if len(outdated) else ():
            hit = pyarrow.compute.is_in(read_table(path, [ID])[ID], value_set=outdated)
            if pyarrow.compute.any(hit).as_py():
                left = read_table(path).filter(pyarrow.compute.invert(hit))
                written = self._write_table(left) if len(left) else None
                if written != path:
                    path.unlink()

    def remove_unfinished(self) -> None:
        """Removes what a killed process of this part left half written."""
        for path in self.folder.glob(f".{self.prefix}*.unfinished"):
            path.unlink(missing_ok=True)


class WrittenRows:
    """The rows that earlier runs have written: which pictures are done, which have changed since, which failed.

    Args:
        shards: Where they are. Rows that are in two files, as a process that was killed while it rewrote one may leave
            them, are removed from the second one.
    """

    def __init__(self, shards: ShardFolder) -> None:
        pyarrow = import_pyarrow()
        #: Id of each picture that could not be explained to what was wrong with it.
        self.failures: dict[str, str] = {}
        ids, statuses, files = [pyarrow.array([], pyarrow.string())], [np.zeros((0, 2), np.int64)], shards.files()
        for path in files:
            table = read_table(path, [ID, FAILURE, BYTES, MODIFIED])
            ids.append(table[ID].combine_chunks())
            statuses.append(_status_columns(table))
            failed = table.filter(pyarrow.compute.is_valid(table[FAILURE]))
            self.failures |= dict(zip(failed[ID].to_pylist(), failed[FAILURE].to_pylist(), strict=True))
        self._ids, self._statuses = pyarrow.concat_arrays(ids), np.concatenate(statuses)
        if len(self._ids) > pyarrow.compute.count_distinct(self._ids).as_py():
            self._remove_repeated(shards, files, [len(part) for part in ids[1:]])

    def __len__(self) -> int:
        return len(self._ids)

    def _remove_repeated(self, shards: ShardFolder, files: Sequence[Path], lengths: Sequence[int]) -> None:
        pyarrow = import_pyarrow()
        first = pyarrow.compute.index_in(self._ids, value_set=self._ids).to_numpy(zero_copy_only=False)
        repeated = first != np.arange(len(first))
        for path, rows in zip(files, np.split(np.arange(len(first)), np.cumsum(lengths)[:-1]), strict=True):
            shards.remove(self._ids.take(pyarrow.array(rows[repeated[rows]])).to_pylist(), [path])
        keep = np.flatnonzero(~repeated)
        self._ids, self._statuses = self._ids.take(pyarrow.array(keep)), self._statuses[keep]

    @functools.cached_property
    def done(self) -> frozenset[str]:
        """The ids of all rows of pictures that were explained, for a data set that is read a few rows at a time."""
        return frozenset(self._ids.to_pylist()) - self.failures.keys()

    def find(self, ids: Sequence[str], statuses: Sequence[FileStatus | None] | None) -> tuple[np.ndarray, np.ndarray]:
        """Tells of pictures whether they have a row, and whether nothing is left to do for them.

        Args:
            ids: Those of the pictures.
            statuses: What tells whether the file of each is changed, None where that is not known; None where the
                pictures are no files.

        Returns:
            Two bool arrays (N,): whether there is a row, and whether that is of the picture as it is now.
        """
        pyarrow = import_pyarrow()
        found = pyarrow.compute.index_in(pyarrow.array(list(ids), pyarrow.string()), value_set=self._ids)
        index = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        present = index >= 0
        done = present.copy()
        if statuses is not None and len(self._ids):
            now = np.array([(-2, -2) if status is None else status for status in statuses], np.int64).reshape(-1, 2)
            done &= (self._statuses[np.maximum(index, 0)] == now).all(axis=1)
        if self.failures:
            done &= ~np.fromiter((name in self.failures for name in ids), bool, len(ids))
        return present, done


def open_shard(path: Path) -> Any:
    """Opens a file of results as a ``pyarrow.parquet.ParquetFile``.

    Raises:
        OSError: If it is no such file, or a damaged one.
    """
    pyarrow = import_pyarrow()
    check_file(path)  # a pipe would never end
    try:
        return pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise _damaged(path, error) from error


def read_table(path: Path, columns: Sequence[str] | None = None) -> Any:
    """Reads a file of results, or some of its columns; those that it does not have are null.

    Raises:
        OSError: If it is no such file, or a damaged one.
    """
    pyarrow = import_pyarrow()
    kinds = {ID: pyarrow.string(), FAILURE: pyarrow.string(), BYTES: pyarrow.int64(), MODIFIED: pyarrow.int64()}
    file = open_shard(path)
    names = file.schema_arrow.names
    try:
        table = file.read(None if columns is None else [name for name in columns if name in names])
        for index, name in enumerate(table.column_names):
            if name in kinds:
                table = table.set_column(index, name, table[name].cast(kinds[name]))
    except pyarrow.ArrowException as error:
        raise _damaged(path, error) from error
    for name in columns or ():
        if name not in names:
            table = table.append_column(name, pyarrow.nulls(len(table), kinds.get(name, pyarrow.null())))
    return table


def _damaged(path: Path, error: Exception) -> OSError:
    return OSError(f"{str(path)!r} is no file of results, or a damaged one: {in_one_line(error)}")


def _status_columns(table: Any) -> np.ndarray:
    """Returns size and time of the files of rows, int64 (N, 2), -1 where they are not known."""
    columns = [table[name].combine_chunks().fill_null(-1).to_numpy(zero_copy_only=False) for name in (BYTES, MODIFIED)]
    return np.stack(columns, axis=1).astype(np.int64).reshape(-1, 2)
