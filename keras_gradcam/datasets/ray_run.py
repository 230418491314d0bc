"""A run on a Ray cluster: tasks read and decode, actors explain, tasks write; whatever is lost is done again by Ray."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..errors import ArgumentError
from ..extras import import_pyarrow, import_ray
from ..pictures.reading import threads
from ..pictures.spec import PictureSpec
from .batch import ExplainBatch
from .columns import FAILURE, ID, IMAGE, as_ids, count_rows, select
from .decoding import decode_rows
from .description import Prepared
from .shards import ShardFolder, WrittenRows
from .sources import (
    Part,
    Rows,
    TableSource,
    is_for_ray,
    open_source,
    parquet_files,
    parquet_groups,
    paths_of,
    read_group,
)

Result = TypeVar("Result")

# How many batches a block has, the unit that tasks work on, and the rows and bytes of a file.
_BATCHES_OF_BLOCK = 8
_MOST_ROWS, _MOST_BYTES = 1024, 64 << 20


def on_worker(function: Callable[..., Result], *arguments: Any) -> Result:
    """Calls a function on a worker, for what loads the model: here it would take the memory of a GPU from the actors.

    Raises:
        What the function raises.
    """
    ray = import_ray()
    task = ray.remote(num_cpus=1, max_retries=1)(function)
    try:
        return ray.get(task.remote(*arguments))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def run_on_ray(
    explain_batch: ExplainBatch,
    prepared: Prepared,
    source: Any,
    shards: ShardFolder,
    written: WrittenRows,
    notify: Callable[[int | None, int, Rows], None],
    actors: int | None = None,
) -> int:
    """Explains all rows of a data set; returns how many were done before.

    Args:
        explain_batch: What is done to every batch.
        prepared: What was found out about it.
        source: The data set.
        shards: Where rows are written to, a folder that all machines reach by its path.
        written: What earlier runs have done.
        notify: Called with the number of all pictures (None if not known), that of those done before, and ids and
            failures of rows that are written.
        actors: How many processes explain; by default one for each GPU, or for every two CPUs.
    """
    ray = import_ray()
    size, spec = explain_batch.batch_size, prepared.spec
    block = _BATCHES_OF_BLOCK * size
    mailbox = ray.remote(num_cpus=0)(_Mailbox).remote()
    opened = _open(ray, source, explain_batch, written, block, mailbox)
    # Outdated rows are removed at once: later nobody knows which of two is the new one.
    shards.remove(opened.outdated)
    if opened.rows is None:
        return opened.before
    decoder = _Decoder(mailbox, spec, opened.columns, explain_batch.named)
    rows = opened.rows.map_batches(decoder, batch_size=block)
    resources = ray.cluster_resources()
    gpus, cpus = resources.get("GPU", 0), resources.get("CPU", 1)
    count = actors or max(int(gpus or cpus // 2), 1)
    # Half of the CPUs are left to the tasks that read, decode and write.
    share = {"num_gpus": 1} if gpus else {"num_cpus": min(1.0, cpus / 2 / count)}
    rows = rows.map_batches(
        _Explainer,
        fn_constructor_args=(mailbox, explain_batch, max(int(cpus // count), 1)),
        batch_size=size,
        compute=ray.data.ActorPoolStrategy(size=count),
        **share,
    )
    done = rows.map_batches(_Writer(mailbox, shards), batch_size=_rows_of_file(prepared))
    try:
        with _without_bars(ray):
            for finished in done.iter_batches(batch_size=None, batch_format="numpy"):
                notify(opened.total, opened.before, finished)
    except ray.exceptions.RayTaskError as error:
        # Ray tells what was raised in words alone.
        raise ray.get(mailbox.first.remote()) or error from error
    return opened.before


def _rows_of_file(prepared: Prepared) -> int:
    of_row = sum(4 * int(np.prod(shape)) for shape in prepared.plan.maps.values()) + 4 * prepared.plan.embedding + 100
    return int(np.clip(_MOST_BYTES // of_row, 1, _MOST_ROWS))


@contextlib.contextmanager
def _without_bars(ray: Any) -> Iterator[None]:
    """Leaves the terminal to one progress bar, ours."""
    context = ray.data.DataContext.get_current()
    before, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        yield
    finally:
        context.enable_progress_bars = before


class _Mailbox:
    """Keeps errors that stages have raised, in an actor of Ray."""

    def __init__(self) -> None:
        self._errors: list[Exception] = []

    def put(self, error: Exception) -> None:
        self._errors.append(error)

    def first(self) -> Exception | None:
        return self._errors[0] if self._errors else None


class _Stage:
    """A step that all rows go through; what it raises about arguments and files reaches the driver as it is.

    Args:
        mailbox: The actor that keeps errors.
    """

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def __call__(self, rows: Rows) -> Rows:
        try:
            return self.step(rows)
        except (ArgumentError, OSError) as error:
            import_ray().get(self._mailbox.put.remote(error))
            raise

    def step(self, rows: Rows) -> Rows:
        """Returns what becomes of a batch of rows."""
        raise NotImplementedError


class _Decoder(_Stage):
    """Reads and decodes pictures, in a task of Ray."""

    def __init__(self, mailbox: Any, spec: PictureSpec, columns: Mapping[str, str], named: Sequence[str]) -> None:
        super().__init__(mailbox)
        self._spec, self._columns, self._named = spec, columns, named

    def step(self, rows: Rows) -> Rows:
        with threads() as pool:
            return decode_rows(select(rows, self._columns, self._named), self._spec, pool)


class _Explainer(_Stage):
    """Explains, in an actor of Ray that keeps the model."""

    def __init__(self, mailbox: Any, explain_batch: ExplainBatch, cpus: int) -> None:
        super().__init__(mailbox)
        # Each TensorFlow would start as many threads as the machine has processors.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(cpus))
        self._explain_batch = explain_batch
        explain_batch.session  # noqa: B018  # loaded and compiled while the first pictures are read

    def step(self, rows: Rows) -> Rows:
        return self._explain_batch.explain(rows)


class _Writer(_Stage):
    """Writes rows, in a task of Ray; repeated it writes the same file."""

    def __init__(self, mailbox: Any, shards: ShardFolder) -> None:
        super().__init__(mailbox)
        self._shards = shards

    def step(self, rows: Rows) -> Rows:
        self._shards.write(rows)
        return {name: rows[name] for name in (ID, FAILURE)}


class _Pending(_Stage):
    """Leaves out rows that are done, in a task of Ray."""

    def __init__(self, mailbox: Any, column: str, written: WrittenRows) -> None:
        super().__init__(mailbox)
        self._column, self._written = column, written

    def step(self, rows: Rows) -> Rows:
        if self._column not in rows:
            raise ArgumentError("columns", "name a column of ids", repr(self._column), [repr(name) for name in rows])
        ids = np.array(as_ids(rows[self._column]), object)
        _, done = self._written.find(ids.tolist(), None)
        return {**{name: values[~done] for name, values in rows.items()}, self._column: ids[~done]}


# --- data sets --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Opened:
    """A data set of Ray without the rows that are done.

    Attributes:
        rows: The data set, or None if nothing is left.
        columns: Names in the results with its columns.
        outdated: Ids of rows of earlier runs that are explained again.
        total: The number of all rows, or None if that is not known.
        before: The number of those that are done.
    """

    rows: Any
    columns: Mapping[str, str]
    outdated: Sequence[str]
    total: int | None
    before: int


def _open(
    ray: Any, source: Any, explain_batch: ExplainBatch, written: WrittenRows, block: int, mailbox: Any
) -> _Opened:
    """Opens a data set of any kind."""
    columns = explain_batch.columns
    if isinstance(source, ray.data.Dataset):
        return _streamed(source, columns, written, mailbox)
    paths = paths_of(source)
    if any(map(is_for_ray, paths)):
        return _streamed(*_read(ray, paths, columns), written, mailbox)
    files = parquet_files(source)
    if files:
        groups = [{"file": file, "group": group, "start": start} for file, group, start in parquet_groups(files)]
        items = ray.data.from_items(groups, override_num_blocks=len(groups))
        rows = items.map_batches(_GroupReader(columns, block), batch_size=1)
        return _streamed(rows, columns, written, mailbox)
    with threads() as pool:
        opened = open_source(source, columns, Part(), written, pool, block)
    if not isinstance(opened, TableSource):
        raise ArgumentError(
            "source",
            "be a data set that Ray can read",
            type(source).__name__,
            ["a folder of pictures", "Parquet files", "a table", "ray.data.from_items(...)"],
        )
    blocks = list(opened.batches(block))
    return _Opened(_of_blocks(ray, blocks) if blocks else None, columns, opened.outdated, opened.total, opened.before)


def _streamed(rows: Any, columns: Mapping[str, str], written: WrittenRows, mailbox: Any) -> _Opened:
    """Leaves out of a data set the rows that are done, while it is read."""
    failed = list(written.failures)
    pending = rows.map_batches(_Pending(mailbox, columns[ID], written))
    return _Opened(pending, columns, failed, None, len(written) - len(failed))


def _of_blocks(ray: Any, blocks: Sequence[Rows]) -> Any:
    """Returns a data set of rows in memory."""
    pyarrow = import_pyarrow()
    if all(values.ndim == 1 and not isinstance(values[0], np.ndarray) for values in blocks[0].values()):
        return ray.data.from_arrow(
            [pyarrow.table({name: pyarrow.array(values.tolist()) for name, values in rows.items()}) for rows in blocks]
        )
    items = [
        {name: values[index] for name, values in rows.items()}
        for rows in blocks
        for index in range(count_rows("source", rows))
    ]
    return ray.data.from_items(items, override_num_blocks=len(blocks))


def _read(ray: Any, paths: Sequence[str], columns: Mapping[str, str]) -> tuple[Any, Mapping[str, str]]:
    """Returns a data set of files that Ray reads, and names in the results with its columns."""
    (*_, ending) = paths[0].rpartition(".")
    if ending in ("tfrecord", "tfrecords"):
        return ray.data.read_tfrecords(list(paths)), columns
    if ending == "tar":
        return ray.data.read_webdataset(list(paths), decoder=None), columns
    if ending == "parquet":
        return ray.data.read_parquet(list(paths), columns=list(columns.values())), columns
    # Pictures: an address with "://" leads to no folder of this machine.
    return ray.data.read_binary_files(list(paths), include_paths=True), {**columns, IMAGE: "bytes", ID: "path"}


class _GroupReader:
    """Reads row groups of Parquet files, in a task of Ray."""

    def __init__(self, columns: Mapping[str, str], size: int) -> None:
        self._columns, self._size = columns, size

    def __call__(self, groups: Rows) -> Iterator[Rows]:
        for file, group, start in zip(groups["file"], groups["group"], groups["start"], strict=True):
            yield from read_group(str(file), int(group), int(start), self._columns, self._size)
