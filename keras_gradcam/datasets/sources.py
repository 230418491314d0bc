"""Where rows come from: files of pictures, tables, Parquet, or anything that gives batches."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import ArgumentError, described
from ..extras import import_pyarrow
from ..files import FileStatus, file_status
from ..pictures.folders import find_pictures
from ..pictures.reading import slices
from .columns import ID, IMAGE, STATUS, as_column, as_ids, count_rows
from .shards import WrittenRows

#: The rows of a batch, by column.
Rows = dict[str, np.ndarray]

# Files that a thread asks for at a time.
_MANY = 1024


@dataclass(frozen=True)
class Part:
    """A share of the work: the pictures whose id falls to it, the same in every process.

    Attributes:
        number: Counted from 1.
        count: Of how many.
    """

    number: int = 1
    count: int = 1

    @property
    def name(self) -> str:
        """What files of this part are called after, such as "0003-of-0016"; "" for the whole."""
        return "" if self.count == 1 else f"{self.number:04d}-of-{self.count:04d}"

    def owns(self, ids: Sequence[str]) -> np.ndarray:
        """Returns which ids fall to this part, bool (N,)."""
        if self.count == 1:
            return np.ones(len(ids), bool)
        return np.fromiter((_hash(text) % self.count == self.number - 1 for text in ids), bool, len(ids))


def read_part(shard: str | Sequence[int] | None) -> Part:
    """Reads ``"3/16"`` or ``(3, 16)``.

    Raises:
        ArgumentError: If it is neither.
    """
    if shard is None:
        return Part()
    parts = shard.split("/") if isinstance(shard, str) else shard
    try:
        number, count = (int(part) for part in parts)
    except (TypeError, ValueError):
        number, count = 0, 0
    if not 1 <= number <= count <= 9999:
        raise ArgumentError("shard", "be NUMBER/COUNT, counted from 1", described(shard), ["1/16", "16/16"])
    return Part(number, count)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


class Source(Protocol):
    """A data set that is read once.

    Attributes:
        total: How many rows of the part there are, or None if that is not known.
        before: How many of them earlier runs have done, as far as it was read.
    """

    total: int | None
    before: int

    def batches(self, size: int) -> Iterator[Rows]:
        """Yields the rows that are to be explained, by the columns of the data set and with "id"."""


class TableSource:
    """Rows of a table in memory, whose pictures may be paths of files.

    Args:
        table: Columns by name.
        columns: Names in the results with the names of columns.
        part: Which rows are read.
        written: What earlier runs have done.
        pool: Threads that ask for the size and the time of files.
    """

    def __init__(
        self,
        table: Mapping[str, Any],
        columns: Mapping[str, str],
        part: Part,
        written: WrittenRows,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._table = {name: as_column(values) for name, values in table.items()}
        self._id = columns[ID]
        images = self._table.get(columns[IMAGE], np.empty(0))
        count = count_rows("source", self._table)
        are_files = bool(len(images)) and isinstance(images[0], str)
        if self._id not in self._table:
            self._table[self._id] = as_column(images if are_files else [str(number) for number in range(count)])
        ids = as_ids(self._table[self._id])
        check_unique(ids)
        self._table[self._id] = as_column(ids)
        owned = np.flatnonzero(part.owns(ids))
        statuses: list[FileStatus | None] | None = None
        if are_files:
            statuses = _statuses([str(images[row]) for row in owned], pool)
            known = np.array([(-1, -1) if status is None else status for status in statuses], np.int64).reshape(-1, 2)
            for name, values in zip(STATUS.values(), known.T, strict=True):
                self._table[name] = np.full(count, -1, np.int64)
                self._table[name][owned] = values
        present, done = written.find([ids[row] for row in owned], statuses)
        self._rows = owned[~done]
        #: Ids of rows that there are, of pictures that have changed or failed.
        self.outdated = [ids[row] for row in owned[present & ~done]]
        self.total: int | None = len(owned)
        self.before = int(done.sum())

    def batches(self, size: int) -> Iterator[Rows]:
        for start in range(0, len(self._rows), size):
            rows = self._rows[start : start + size]
            yield {name: values[rows] for name, values in self._table.items()}


def _statuses(paths: Sequence[str], pool: ThreadPoolExecutor) -> list[FileStatus | None]:
    """Returns size and time of many files; on a network file system each takes a while."""
    found = pool.map(lambda rows: list(map(file_status, paths[rows])), slices(len(paths), _MANY))
    return list(itertools.chain.from_iterable(found))


class StreamSource:
    """Batches that are read one after the other, with only some rows in memory.

    Args:
        batches: Dicts of columns; rows that are done or of other parts are left out as they are read.
        columns: Names in the results with the names of columns.
        part: Which rows are read.
        written: What earlier runs have done.
        total: How many rows there are, if that is known.
    """

    def __init__(
        self,
        batches: Iterable[Mapping[str, Any]],
        columns: Mapping[str, str],
        part: Part,
        written: WrittenRows,
        total: int | None = None,
    ) -> None:
        self._batches, self._id, self._part, self._written = batches, columns[ID], part, written
        self.total = total if part.count == 1 else None
        self.before = 0

    def batches(self, size: int) -> Iterator[Rows]:
        count, seen = 0, set[int]()
        held: list[Rows] = []
        for batch in self._batches:
            if not isinstance(batch, Mapping) or not batch:
                raise ArgumentError(
                    "source", "give dicts of columns", described(batch), "{'image': [...], 'id': [...]}"
                )
            rows = {name: as_column(values) for name, values in batch.items()}
            length = count_rows("source", rows)
            if self._id not in rows:
                rows[self._id] = as_column([str(count + index) for index in range(length)])
            count += length
            ids = as_ids(rows[self._id])
            rows[self._id] = as_column(ids)
            hashes = list(map(_hash, ids))
            if len({*hashes}) < length or not seen.isdisjoint(hashes):
                check_unique(ids, seen)
            seen.update(hashes)
            owned = self._part.owns(ids)
            done = np.fromiter((name in self._written.done for name in ids), bool, length)
            self.before += int((owned & done).sum())
            held.append({name: values[owned & ~done] for name, values in rows.items()})
            while sum(count_rows("source", part) for part in held) >= size:
                whole = _joined(held)
                yield {name: values[:size] for name, values in whole.items()}
                held = [{name: values[size:] for name, values in whole.items()}]
        if any(count_rows("source", part) for part in held):
            yield _joined(held)


def _joined(parts: Sequence[Rows]) -> Rows:
    """Concatenates rows; pictures of different sizes become an array of objects."""
    parts = [part for part in parts if count_rows("source", part)]
    if len(parts) == 1:
        return parts[0]
    joined = {}
    for name in parts[0]:
        columns = [part[name] for part in parts]
        alike = len({(column.dtype.kind == "O", column.shape[1:]) for column in columns}) == 1
        joined[name] = np.concatenate(columns) if alike else as_column([row for column in columns for row in column])
    return joined


def check_unique(ids: Sequence[str], before: set[int] | None = None) -> None:
    """Raises ArgumentError if an id is there twice."""
    seen = set(before or ())
    for text in ids:
        number = _hash(text)
        if number in seen:
            raise ArgumentError("columns", "name ids that tell all pictures apart", f"{text!r} twice", "{'id': 'path'}")
        seen.add(number)


def paths_of(source: Any) -> list[str]:
    """Returns the paths in a source that is one or several; none if it is something else."""
    paths = [source] if isinstance(source, (str, os.PathLike)) else source
    if not isinstance(paths, (list, tuple)) or not all(isinstance(path, (str, os.PathLike)) for path in paths):
        return []
    return list(map(os.fspath, paths))


def parquet_files(source: Any) -> list[str]:
    """Returns the Parquet files that paths stand for; none if they stand for something else."""
    files: list[str] = []
    for path in paths_of(source):
        if os.path.isdir(path):
            files += sorted(map(str, Path(path).absolute().glob("*.parquet")))
        elif path.endswith(".parquet"):
            files.append(os.path.abspath(path))
    return files


def parquet_groups(files: Sequence[str]) -> list[tuple[str, int, int]]:
    """Returns the row groups of Parquet files: file, number, and the number of rows of the file before it."""
    pyarrow = import_pyarrow()
    groups = []
    for path in files:
        metadata, start = pyarrow.parquet.read_metadata(path), 0
        for group in range(metadata.num_row_groups):
            groups.append((path, group, start))
            start += metadata.row_group(group).num_rows
    return groups


def read_group(path: str, group: int, start: int, columns: Mapping[str, str], size: int) -> Iterator[Rows]:
    """Reads the named columns of a row group, some rows at a time; rows without ids get that of their file and number.

    Args:
        path: The Parquet file.
        group: The number of the row group.
        start: The number of rows before it.
        columns: Names in the results with the names of columns.
        size: The number of rows at a time.
    """
    file = import_pyarrow().parquet.ParquetFile(path)
    wanted = [column for column in dict.fromkeys(columns.values()) if column in file.schema_arrow.names]
    for batch in file.iter_batches(size, [group], wanted):
        rows = {name: _from_arrow(batch[name]) for name in wanted}
        if columns[ID] not in rows:
            rows[columns[ID]] = as_column([f"{os.path.basename(path)}#{start + row}" for row in range(len(batch))])
        start += len(batch)
        yield rows


def _from_arrow(array: Any) -> np.ndarray:
    """Returns a column of Arrow as NumPy, nested values as they are in Python."""
    pyarrow = import_pyarrow()
    kind = array.type
    if pyarrow.types.is_nested(kind) or pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind):
        column = np.empty(len(array), object)
        column[:] = array.to_pylist()
        return column
    return array.to_numpy(zero_copy_only=False)


def open_source(
    source: Any, columns: Mapping[str, str], part: Part, written: WrittenRows, pool: ThreadPoolExecutor, size: int
) -> Source:
    """Opens a data set of any kind.

    Raises:
        ArgumentError: If it is none.
    """
    files = parquet_files(source)
    if files:
        groups = parquet_groups(files)
        total = sum(import_pyarrow().parquet.read_metadata(file).num_rows for file in files)
        batches = (rows for path, group, start in groups for rows in read_group(path, group, start, columns, size))
        return StreamSource(batches, columns, part, written, total)
    if hasattr(source, "to_dict") and hasattr(source, "columns"):  # a table of pandas
        source = {str(name): source[name].to_numpy() for name in source.columns}
    if isinstance(source, Mapping):
        return TableSource(source, columns, part, written, pool)
    paths = paths_of(source)
    if paths:
        found = find_pictures(list(map(_local, paths)), name="source")
        return TableSource({columns[IMAGE]: as_column(found)}, columns, part, written, pool)
    if not isinstance(source, Iterable) or isinstance(source, (bytes, np.ndarray)):
        raise ArgumentError(
            "source",
            "be a data set",
            described(source),
            ["a folder of pictures", "Parquet files", "a dict of columns", "an iterable of such dicts"],
        )
    return StreamSource(source, columns, part, written)


def is_for_ray(path: str) -> bool:
    """Returns whether only Ray reads what a path leads to: addresses, TFRecords and WebDatasets."""
    return "://" in path or path.endswith((".tfrecord", ".tfrecords", ".tar"))


def _local(path: str) -> str:
    """Returns a path of this machine; raises ArgumentError for what only the engine "ray" reads."""
    if is_for_ray(path):
        raise ArgumentError("source", "be on this machine, as pictures or Parquet", repr(path), "engine='ray'")
    return path
