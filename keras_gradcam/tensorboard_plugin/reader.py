"""Reads the tab's data through TensorBoard's data provider, which hides whether it uses its fast or its slow loader."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from tensorboard import errors
from tensorboard.data import provider

from . import metadata
from .limits import check_maps, check_numbers, check_picture, check_pictures, check_text
from .metadata import RunInfo

#: The step under which the model before its first epoch is served.
START = -1

#: More steps than are ever kept.
_ALL = 1_000_000

# Characters of a reason that are shown.
_LONGEST_REASON = 300


class _Datum(Protocol):
    step: int
    wall_time: float


Datum = TypeVar("Datum", bound=_Datum)

Checked = TypeVar("Checked")


@dataclass(frozen=True)
class RunSummary:
    """A run in the list of runs.

    Attributes:
        name: TensorBoard's name of the run.
        revision: A text that changes whenever the run's data change.
        last_epoch: The latest epoch with maps, or None.
        tags: The tags of the tab that the run has.
        info: The run's description, or None.
        error: Why there is no description, or None.
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
        steps: Ascending; :data:`START` first if it was logged.
        arrays: One per step; their shapes may differ.
        unreadable: The number of steps whose data have another shape or type than expected.
    """

    steps: tuple[int, ...] = ()
    arrays: tuple[np.ndarray, ...] = field(default=())
    unreadable: int = 0


class Reader:
    """Reads the data of the tab.

    Args:
        data_provider: TensorBoard's ``DataProvider``.
    """

    def __init__(self, data_provider: Any) -> None:
        self._provider = data_provider

    def runs(self, ctx: Any, experiment: str) -> list[RunSummary]:
        """Returns all runs that have data of the tab, sorted by name; one that cannot be read says why."""
        tensors = self._provider.list_tensors(ctx, experiment_id=experiment, plugin_name=metadata.PLUGIN_NAME)
        return [self._summary(ctx, experiment, name, tensors[name]) for name in sorted(tensors)]

    def _summary(self, ctx: Any, experiment: str, run: str, tensors: Mapping[str, Any]) -> RunSummary:
        """Describes a run. Each is read by itself: what is wrong with one must not hide the others."""
        info, error, blobs = None, None, {}
        try:
            blobs = self._provider.list_blob_sequences(
                ctx,
                experiment_id=experiment,
                plugin_name=metadata.PLUGIN_NAME,
                run_tag_filter=provider.RunTagFilter(runs=[run]),
            ).get(run, {})
            info = _description(self._tensors(ctx, experiment, run, [metadata.RUN]).get(metadata.RUN, ()))
        except Exception as failure:  # TensorBoard raises errors of any kind for tensors that it cannot unpack
            error = _reason(failure)
        series = {**tensors, **blobs}
        last = series[metadata.MAPS].max_step if metadata.MAPS in series else None
        state = sorted((tag, latest.max_step, latest.max_wall_time) for tag, latest in series.items())
        return RunSummary(run, _digest(repr(state)), last, frozenset(series), info, error)

    def maps(self, ctx: Any, experiment: str, run: str, partners: bool = False) -> Series | None:
        """Returns the maps of a run or of its partners, (N, h, w) each, or None if there are none."""
        start, tag = metadata.START_MAPS, metadata.MAPS
        if partners:
            start, tag = metadata.START_PARTNER_MAPS, metadata.PARTNER_MAPS
        return self._series(ctx, experiment, run, start, tag, check_maps)

    def numbers(self, ctx: Any, experiment: str, run: str) -> Series | None:
        """Returns the numbers of a run, (N, columns) each, or None if there are none."""
        return self._series(ctx, experiment, run, metadata.START_NUMBERS, metadata.NUMBERS, check_numbers)

    def pictures(self, ctx: Any, experiment: str, run: str, partners: bool = False) -> list[bytes] | None:
        """Returns the pictures of a run or of its partners, encoded, or None if there are none."""
        tag = metadata.PARTNERS if partners else metadata.PICTURES
        logged = self._tensors(ctx, experiment, run, [tag]).get(tag, ())
        readable = [datum for datum in logged if _readable(check_pictures, datum.numpy) is not None]
        return check_pictures(latest(readable)[-1].numpy) if readable else None

    def guided(self, ctx: Any, experiment: str, run: str, step: int) -> list[bytes] | None:
        """Returns the guided pictures of an epoch, encoded, or None if there are none."""
        tag = metadata.START_GUIDED if step == START else metadata.GUIDED
        with _one_run(run):
            logged = self._provider.read_blob_sequences(
                ctx,
                experiment_id=experiment,
                plugin_name=metadata.PLUGIN_NAME,
                downsample=_ALL,
                run_tag_filter=provider.RunTagFilter(runs=[run], tags=[tag]),
            )
            data = [datum for datum in latest(logged.get(run, {}).get(tag, ())) if step in (START, datum.step)]
            if not data:
                return None
            keys = [reference.blob_key for reference in data[-1].values]
            # The fast loader takes about 40 ms per blob of any size, but serves many at the same time.
            with ThreadPoolExecutor(max_workers=16) as pool:
                return list(pool.map(lambda key: check_picture(self._provider.read_blob(ctx, blob_key=key)), keys))

    def _series(
        self, ctx: Any, experiment: str, run: str, start: str, tag: str, check: Callable[[Any], np.ndarray]
    ) -> Series | None:
        logged = self._tensors(ctx, experiment, run, [start, tag])
        if not logged:
            return None
        data = [(START, datum) for datum in latest(logged.get(start, ()))[-1:]]
        data += [(datum.step, datum) for datum in latest(logged.get(tag, ()))]
        checked = [(step, _readable(check, datum.numpy)) for step, datum in data]
        readable = [(step, array) for step, array in checked if array is not None]
        steps, arrays = zip(*readable, strict=True) if readable else ((), ())
        return Series(steps, arrays, len(data) - len(readable))

    def _tensors(self, ctx: Any, experiment: str, run: str, tags: Iterable[str]) -> dict[str, Any]:
        with _one_run(run):
            logged = self._provider.read_tensors(
                ctx,
                experiment_id=experiment,
                plugin_name=metadata.PLUGIN_NAME,
                downsample=_ALL,
                run_tag_filter=provider.RunTagFilter(runs=[run], tags=list(tags)),
            )
        return dict(logged.get(run, {}))


def latest(data: Iterable[Datum]) -> list[Datum]:
    """Merges the data of a training that was killed and resumed into one timeline.

    Of several data of one step the latest is kept. Once a step was written again, older data of later steps are dropped
    too: they belong to the attempt that was killed.

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


@contextlib.contextmanager
def _one_run(run: str) -> Iterator[None]:
    """Turns whatever goes wrong with the data of a run into an error that TensorBoard answers with its reason."""
    try:
        yield
    except errors.PublicError:
        raise
    except Exception as error:
        raise errors.InvalidArgumentError(f"The data of {run!r} cannot be read. {_reason(error)}") from error


def _description(data: Sequence[Any]) -> RunInfo:
    if not data:
        raise ValueError("The run's description is missing.")
    return RunInfo.from_json(check_text(max(data, key=lambda datum: datum.wall_time).numpy))


def _readable(check: Callable[[Any], Checked], value: Any) -> Checked | None:
    try:
        return check(value)
    except ValueError:
        return None


def _reason(error: Exception) -> str:
    """Says what went wrong, in a few words."""
    text = " ".join(str(error).split())[:_LONGEST_REASON]
    return text if isinstance(error, (ValueError, errors.PublicError)) and text else f"{type(error).__name__}: {text}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
