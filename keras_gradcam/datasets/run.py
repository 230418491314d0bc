"""Explains a whole data set and writes the rows to a folder of Parquet files."""

from __future__ import annotations

import contextlib
import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..drawing.class_names import ClassNames, names_by_number
from ..errors import ArgumentError, check_choice, check_flag, check_path, check_whole_number
from ..extras import import_pyarrow
from ..files import check_writable, lock_folder, unlock_folder
from .batch import ExplainBatch
from .columns import FAILURE, ID
from .description import agree_on, prepare
from .local_run import run_locally
from .ray_run import on_worker, run_on_ray
from .shards import ShardFolder, WrittenRows
from .sources import Part, Rows, open_source, read_part

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class RunSummary:
    """What a run has done.

    Attributes:
        out: The folder of the results, see :func:`keras_gradcam.datasets.open_results`.
        explained: The number of pictures that were explained.
        before: The number of those that earlier runs had explained.
        failed: The number of those that could not be explained; ``failure`` in their rows says why.
        seconds: How long it took, without loading the model.
    """

    out: str
    explained: int
    before: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return (self.explained + self.failed) / max(self.seconds, 1e-9)


def explain_dataset(
    source: Any,
    model: Any,
    out: Any,
    *,
    engine: str = "local",
    shard: str | Sequence[int] | None = None,
    class_names: ClassNames = None,
    overwrite: bool = False,
    progress: bool = True,
    actors: int | None = None,
    **options: Any,
) -> RunSummary:
    """Explains a data set of any size and writes a row for each picture to Parquet files.

    Memory holds a few batches. The same call goes on where a run was interrupted, and explains again what changed: the
    rows of pictures from files know size and time of their file. Any number of processes can share the work without
    knowing of each other: give each a ``shard``.

    Args:
        source: Files of pictures, folders and patterns; Parquet files or a folder of them; a table (a dict of columns,
            a pandas data frame), whose pictures may be paths; or an iterable of dicts of columns. For the engine "ray"
            also a ``ray.data.Dataset``, ``.tfrecord`` and ``.tar`` (WebDataset) files, and addresses such as s3://.
        model: The path of a model, a function that returns one, or a model, with ``options``; or an
            :class:`ExplainBatch`.
        out: A folder, made when needed. For "ray" all machines must reach it by this path.
        engine: "local", this process; or "ray", as many actors as a Ray cluster has room for (pip install
            'keras_gradcam[ray]').
        shard: "3/16" or (3, 16): the third of 16 processes that each explain a share of the pictures, chosen by a hash
            of their ids. All may write to one folder at the same time.
        class_names: A list of names in the order of the classes, or a dict {number: name}, kept with the results.
        overwrite: Whether to explain everything anew.
        progress: Whether to show progress.
        actors: How many processes of a Ray cluster explain; by default one for each GPU, or for every two CPUs.
        **options: Those of :class:`ExplainBatch`: ``target``, ``layer``, ``methods``, ``columns``, ``preprocess``, ...

    Returns:
        A :class:`RunSummary`. :func:`open_results` reads the rows back.

    Raises:
        ArgumentError: If arguments do not fit, or the folder holds results of something else.
        ImportError: If pyarrow is missing (pip install 'keras_gradcam[parquet]'), or ray.
        OSError: If rows cannot be written. What was written stays, and the same call goes on from there.

    Example:
        >>> import keras, numpy as np, tempfile
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
        ...                           keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        >>> table = {"image": np.ones((5, 8, 8, 3), np.uint8), "id": list("abcde")}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     explain_dataset(table, model, folder, preprocess="none", progress=False).explained
        5
    """
    check_choice("engine", engine, ENGINES)
    check_flag("overwrite", overwrite)
    check_flag("progress", progress)
    if actors is not None:
        check_whole_number("actors", actors, 1)
    explain_batch = model if isinstance(model, ExplainBatch) else ExplainBatch(model, **options)
    if explain_batch is model and options:
        raise ArgumentError("model", "carry its options itself", f"an ExplainBatch and {', '.join(options)}")
    part = read_part(shard)
    first: list[str] = []
    shown = _Progress() if progress else None

    def notify(total: int | None, before: int, rows: Rows) -> None:
        failures = (f"{name}: {text}" for name, text in zip(rows[ID], rows[FAILURE], strict=True) if text)
        first.extend(itertools.islice(failures, 1 - len(first)))
        if shown is not None:
            shown.add(total, before, len(rows[FAILURE]))

    summary = run_dataset(
        source,
        explain_batch,
        check_path("out", out),
        part,
        engine,
        names_by_number(class_names),
        overwrite,
        notify,
        actors,
    )
    if first:
        warnings.warn(
            f"{summary.failed} of {summary.failed + summary.explained} pictures could not be explained; `failure` in "
            f"their rows says why, such as {first[0]}.",
            UserWarning,
            stacklevel=2,
        )
    return summary


def run_dataset(
    source: Any,
    explain_batch: ExplainBatch,
    out: str,
    part: Part,
    engine: str,
    class_names: Mapping[int, str],
    overwrite: bool,
    notify: Callable[[int | None, int, Rows], None],
    actors: int | None = None,
) -> RunSummary:
    """Explains a data set, as :func:`explain_dataset` says.

    Args:
        source: The data set.
        explain_batch: What is done to every batch.
        out: The folder of the results.
        part: Which share of the pictures is explained.
        engine: One of :data:`ENGINES`.
        class_names: Number to name.
        overwrite: Whether to explain everything anew.
        notify: Called for every batch with the number of all pictures (None if that is not known), of those that were
            done before, and with columns "id" and "failure" of its rows.
        actors: See there.
    """
    import_pyarrow()
    check_sharing(engine, part)
    on_ray = engine == "ray"
    folder = _output_folder(out)
    arguments = explain_batch, part.count, dict(class_names)
    prepared = on_worker(prepare, *arguments) if on_ray else prepare(*arguments)
    for text in prepared.warnings:
        warnings.warn(text, UserWarning, stacklevel=3)
    folder.mkdir(parents=True, exist_ok=True)
    shards = ShardFolder(folder, part.name)
    with _locked(folder, part):
        if overwrite:
            _remove_all(shards, part)
        agree_on(folder, prepared.description, overwrite)
        shards.remove_unfinished()
        written = WrittenRows(shards)
        start = time.monotonic()
        counts = {"explained": 0, "failed": 0}

        def count(total: int | None, before: int, rows: Rows) -> None:
            failed = int((rows[FAILURE] != "").sum())
            counts["failed"] += failed
            counts["explained"] += len(rows[FAILURE]) - failed
            notify(total, before, rows)

        if on_ray:
            before = run_on_ray(explain_batch, prepared, source, shards, written, count, actors)
        else:
            pool = explain_batch.session.pool
            opened = open_source(source, explain_batch.columns, part, written, pool, explain_batch.batch_size)
            run_locally(explain_batch, opened, shards, written, lambda rows: count(opened.total, opened.before, rows))
            before = opened.before
    return RunSummary(str(folder), counts["explained"], before, counts["failed"], time.monotonic() - start)


def check_sharing(engine: str, part: Part) -> None:
    """Raises ArgumentError for a part of a run on Ray."""
    if engine == "ray" and part.count > 1:
        received = f"{part.number}/{part.count}"
        raise ArgumentError("shard", "not be given beside the engine 'ray', which shares the work itself", received)


def _output_folder(out: str) -> Path:
    if "://" in out:
        raise ArgumentError("out", "be a folder (of a network file system, or a mounted bucket)", repr(out))
    folder = Path(out).expanduser().absolute()
    try:
        check_writable(folder)
    except OSError as error:
        raise ArgumentError("out", "be a folder that can be written to", f"{out!r} ({error.strerror})") from error
    return folder


@contextlib.contextmanager
def _locked(folder: Path, part: Part) -> Iterator[None]:
    """Keeps other processes from writing the same part."""
    path = folder
    if part.count > 1:
        path = folder / f"_lock-{part.name}"
        path.touch()
    try:
        lock = lock_folder(path)
    except BlockingIOError as error:
        raise ArgumentError("out", "not be written to by another process", repr(str(folder))) from error
    try:
        yield
    finally:
        unlock_folder(lock)


def _remove_all(shards: ShardFolder, part: Part) -> None:
    """Removes the rows of this part, and those of a run with another number of parts."""
    own = f"-of-{part.count:04d}-"
    for path in shards.folder.glob("part-*.parquet"):
        is_of_others = part.count > 1 and own in path.name and not path.name.startswith(shards.prefix)
        if not is_of_others:
            path.unlink(missing_ok=True)


class _Progress:
    """Keras' progress bar, which begins when it is known how many pictures there are."""

    def __init__(self) -> None:
        self._bar: Any = None

    def add(self, total: int | None, before: int, count: int) -> None:
        import keras

        if self._bar is None:
            left = None if total is None else max(total - before, 1)
            self._bar = keras.utils.Progbar(left, unit_name="picture")
        self._bar.add(count)
