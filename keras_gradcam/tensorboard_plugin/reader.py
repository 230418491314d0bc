"""Reads the tab's data through TensorBoard's data provider; the same code serves its fast and its slow loader."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from tensorboard.data import provider

from . import metadata
from .metadata import RunInfo

#: The step under which the model before its first epoch is served.
START = -1

#: Enough for every step that was kept.
_ALL = 1_000_000


class _Datum(Protocol):
    step: int
    wall_time: float


Datum = TypeVar("Datum", bound=_Datum)


@dataclass(frozen=True)
class RunSummary:
    """A run as it appears in the list.

    Attributes:
        name: TensorBoard's name of the run.
        revision: Changes when the run's data does.
        last_epoch: The latest epoch with maps, or None.
        tags: Which kinds of data there are.
        info: The run's description, or None.
        error: Why there is no description.
    """

    name: str
    revision: str
    last_epoch: int | None
    tags: frozenset[str]
    info: RunInfo | None = None
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Series:
    """Arrays over epochs.

    Attributes:
        steps: Ascending; ``START`` first if there is one.
        arrays: One per step; their shapes may differ.
        unreadable: How many steps held something else than expected.
    """

    steps: tuple[int, ...] = ()
    arrays: tuple[np.ndarray, ...] = field(default=())
    unreadable: int = 0


class Reader:
    """Everything the tab reads.

    Args:
        data_provider: TensorBoard's.
    """

    def __init__(self, data_provider: Any) -> None:
        self._provider = data_provider

    def runs(self, ctx: Any, experiment: str) -> list[RunSummary]:
        """All runs that hold data of the tab, by name."""
        kwargs = {"experiment_id": experiment, "plugin_name": metadata.PLUGIN_NAME}
        tensors = self._provider.list_tensors(ctx, **kwargs)
        blobs = self._provider.list_blob_sequences(ctx, **kwargs)
        described = self._provider.read_tensors(
            ctx, **kwargs, downsample=_ALL, run_tag_filter=provider.RunTagFilter(tags=[metadata.RUN])
        )
        runs = []
        for name in sorted({*tensors, *blobs}):
            series = {**tensors.get(name, {}), **blobs.get(name, {})}
            info, error = _description(described.get(name, {}).get(metadata.RUN, ()))
            last = series[metadata.MAPS].max_step if metadata.MAPS in series else None
            state = sorted((tag, one.max_step, one.max_wall_time) for tag, one in series.items())
            runs.append(RunSummary(name, _digest(repr(state)), last, frozenset(series), info, error))
        return runs

    def maps(self, ctx: Any, experiment: str, run: str, partners: bool = False) -> Series | None:
        """The maps of a run or of its partners, (N, h, w) each, or None if there are none."""
        start, tag = metadata.START_MAPS, metadata.MAPS
        if partners:
            start, tag = metadata.START_PARTNER_MAPS, metadata.PARTNER_MAPS
        return self._series(ctx, experiment, run, start, tag, axes=3)

    def numbers(self, ctx: Any, experiment: str, run: str) -> Series | None:
        """The numbers of a run, (N, columns) each, or None if there is no such run."""
        return self._series(ctx, experiment, run, metadata.START_NUMBERS, metadata.NUMBERS, axes=2)

    def pictures(self, ctx: Any, experiment: str, run: str, partners: bool = False) -> list[bytes] | None:
        """The pictures of a run or of its partners, encoded, or None if there are none."""
        tag = metadata.PARTNERS if partners else metadata.PICTURES
        found = self._tensors(ctx, experiment, run, [tag]).get(tag, ())
        readable = [datum for datum in found if datum.numpy.ndim == 1]
        return [_as_bytes(one) for one in latest(readable)[-1].numpy] if readable else None

    def guided(self, ctx: Any, experiment: str, run: str, step: int) -> list[bytes] | None:
        """The guided pictures of an epoch, encoded, or None if there are none."""
        tag = metadata.START_GUIDED if step == START else metadata.GUIDED
        found = self._provider.read_blob_sequences(
            ctx,
            experiment_id=experiment,
            plugin_name=metadata.PLUGIN_NAME,
            downsample=_ALL,
            run_tag_filter=provider.RunTagFilter(runs=[run], tags=[tag]),
        )
        data = [datum for datum in latest(found.get(run, {}).get(tag, ())) if step in (START, datum.step)]
        if not data:
            return None
        keys = [reference.blob_key for reference in data[-1].values]
        # The fast loader takes some 40 ms to answer for a blob of whatever size, but answers many at a time.
        with ThreadPoolExecutor(max_workers=16) as pool:
            return list(pool.map(lambda key: _as_bytes(self._provider.read_blob(ctx, blob_key=key)), keys))

    def _series(self, ctx: Any, experiment: str, run: str, start: str, tag: str, axes: int) -> Series | None:
        found = self._tensors(ctx, experiment, run, [start, tag])
        if not found:
            return None
        data = [(START, datum) for datum in latest(found.get(start, ()))[-1:]]
        data += [(datum.step, datum) for datum in latest(found.get(tag, ()))]
        readable = [(step, datum.numpy) for step, datum in data if _is_numeric(datum.numpy, axes)]
        steps, arrays = zip(*readable, strict=True) if readable else ((), ())
        return Series(steps, arrays, len(data) - len(readable))

    def _tensors(self, ctx: Any, experiment: str, run: str, tags: Iterable[str]) -> dict[str, Any]:
        found = self._provider.read_tensors(
            ctx,
            experiment_id=experiment,
            plugin_name=metadata.PLUGIN_NAME,
            downsample=_ALL,
            run_tag_filter=provider.RunTagFilter(runs=[run], tags=list(tags)),
        )
        return dict(found.get(run, {}))


def latest(data: Iterable[Datum]) -> list[Datum]:
    """One timeline out of the traces of a training that was killed and resumed.

    Of several data of one step the latest is kept. Where a step was written again, later steps from before that are
    void too: they belong to the attempt that was given up.

    Example:
        >>> from types import SimpleNamespace as Datum
        >>> first = [Datum(step=step, wall_time=step) for step in range(5)]
        >>> resumed = [Datum(step=3, wall_time=100)]
        >>> [(datum.step, datum.wall_time) for datum in latest(first + resumed)]
        [(0, 0), (1, 1), (2, 2), (3, 100)]
    """
    kept: dict[int, Datum] = {}
    rewritten: set[int] = set()
    for datum in data:
        if datum.step in kept:
            rewritten.add(datum.step)
        if datum.step not in kept or datum.wall_time >= kept[datum.step].wall_time:
            kept[datum.step] = datum
    for step in rewritten:
        if step not in kept:
            continue
        since = kept[step].wall_time
        kept = {other: datum for other, datum in kept.items() if other <= step or datum.wall_time >= since}
    return [kept[step] for step in sorted(kept)]


def _description(data: Sequence[Any]) -> tuple[RunInfo | None, str | None]:
    if not data:
        return None, "The run's description is missing."
    try:
        return RunInfo.from_json(_as_bytes(max(data, key=lambda datum: datum.wall_time).numpy.item())), None
    except (AttributeError, ValueError) as error:
        return None, str(error)


def _is_numeric(array: np.ndarray, axes: int) -> bool:
    return array.ndim == axes and array.dtype.kind == "f"


def _as_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
