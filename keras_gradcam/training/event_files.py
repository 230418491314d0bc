"""Reads what trainings have logged back from TensorBoard's event files.

A training that was killed and resumed has several files, in which epochs occur more than once; :func:`select_run` makes
one timeline of them.
"""

from __future__ import annotations

import math
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..tensorboard_plugin import metadata
from ..tensorboard_plugin.columns import COLUMNS
from ..tensorboard_plugin.limits import MOST_CELLS, check_maps, check_numbers, check_pictures, check_scalar, check_text
from ..tensorboard_plugin.metadata import RunInfo
from ..tensorboard_plugin.reader import latest
from .writers.records import read_records

#: What is read, and how it is checked. Pictures of epochs stay on disk: a long training has gigabytes of them.
_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    metadata.REPORT: check_text,
    metadata.RUN: check_text,
    metadata.PICTURES: check_pictures,
    metadata.MAPS: check_maps,
    metadata.NUMBERS: check_numbers,
    metadata.PARTNER_MAPS: check_maps,
    metadata.START_MAPS: check_maps,
    metadata.START_PARTNER_MAPS: check_maps,
    metadata.START_NUMBERS: check_numbers,
}

#: Scalars of the model before its first epoch that are means over the probes, and no totals.
_START_MEANS = frozenset(metadata.mean_tag(column, start=True) for column in COLUMNS)


@dataclass(eq=False)
class Datum:
    """A logged value: what TensorBoard calls a tensor event.

    Attributes:
        step: The epoch.
        wall_time: When it was written.
        value: The array, the number, or the text, encoded.
    """

    step: int
    wall_time: float
    value: Any


#: Tag to its values, in the order in which they were written.
Events = Mapping[str, Sequence[Datum]]


@dataclass(frozen=True, eq=False)
class LoggedEpoch:
    """What was logged of one epoch.

    Attributes:
        step: The absolute epoch; 0 for the model before its first one.
        numbers: float32 (N, columns).
        maps: (N, h, w), or None.
        partner_maps: (N, h, w), or None.
        totals: Name to number, for all probes together.
    """

    step: int
    numbers: np.ndarray
    maps: np.ndarray | None = None
    partner_maps: np.ndarray | None = None
    totals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LoggedRun:
    """One training as its event files tell it, all attempts of a resumed training together.

    Attributes:
        info: Its description.
        start: The model before its first epoch, or None.
        epochs: The logged epochs, ascending; at least one.
        is_finished: Whether the training came to its end.
        has_other_probes: Whether epochs with other probes, logged before, were left out.
    """

    info: RunInfo
    start: LoggedEpoch | None
    epochs: tuple[LoggedEpoch, ...]
    is_finished: bool = True
    has_other_probes: bool = False


def find_event_files(folder: str) -> dict[str, list[str]]:
    """Finds the folders that hold event files, each with their names in the order in which they were begun."""
    event_files: dict[str, list[str]] = {}
    for path, _, names in os.walk(folder):
        # A pipe would wait for another process.
        files = sorted(name for name in names if "tfevents" in name and os.path.isfile(os.path.join(path, name)))
        if files:
            event_files[path] = files
    return event_files


def read_events(folder: str, files: Sequence[str]) -> dict[str, list[Datum]]:
    """Reads what the callback logged in a folder, by tag; warns of files that can be read in part only."""
    from tensorboard.compat.proto.event_pb2 import Event

    events: dict[str, list[Datum]] = defaultdict(list)
    for name in files:
        path = os.path.join(folder, name)
        failures: list[str] = []
        try:
            # A file that was torn by a killed process ends where it was torn.
            for record in read_records(path):
                event = Event.FromString(record)
                if event.step >= 0 and math.isfinite(event.wall_time):
                    _add_values(events, event, failures)
        except Exception as error:  # a broken file makes protobuf raise errors of any kind
            failures.append(str(error))
        if failures:
            warnings.warn(f"{path!r} can be read in part only: {failures[0]}", UserWarning, stacklevel=2)
    return events


def _add_values(events: dict[str, list[Datum]], event: Any, failures: list[str]) -> None:
    """Adds the values of an event, by tag; says what is wrong with those that cannot be read."""
    from tensorboard.compat.proto.types_pb2 import DT_FLOAT
    from tensorboard.util.tensor_util import make_ndarray

    for value in event.summary.value:
        is_total = _total_name(value.tag) is not None and value.tensor.dtype == DT_FLOAT
        check = check_scalar if is_total else _CHECKS.get(value.tag)
        if check is None:
            continue
        try:
            # A few bytes may stand for an array that fills the memory.
            if math.prod(dimension.size for dimension in value.tensor.tensor_shape.dim) > MOST_CELLS:
                raise ValueError(f"more than {MOST_CELLS} values")
            events[value.tag].append(Datum(event.step, event.wall_time, check(make_ndarray(value.tensor))))
        except Exception as error:  # TensorBoard raises errors of any kind for tensors that it cannot unpack
            failures.append(f"{value.tag} at step {event.step}: {error}")


def read_run(log_dir: str) -> LoggedRun:
    """Reads the one training that was logged in a folder or below it.

    Raises:
        ArgumentError: If there is none with a logged epoch, or several.
    """
    runs, failures = {}, []
    for folder, files in find_event_files(log_dir).items():
        try:
            run = select_run(read_events(folder, files))
        except ValueError as error:
            failures.append(f" that can be read ({folder!r}: {error})")
            continue
        if run is not None:
            runs[folder] = run
    if len(runs) != 1:
        raise ArgumentError(
            "log_dir",
            "hold one training that GuidedGradCAMCallback logged",
            f"{log_dir!r}, which holds {len(runs) or 'none'}{failures[0] if failures and not runs else ''}",
            [repr(folder) for folder in sorted(runs)] or "the log_dir that the callback was given",
        )
    (run,) = runs.values()
    return run


def select_run(events: Events) -> LoggedRun | None:
    """Selects the last training in a folder, as it would have been logged without interruptions.

    Returns:
        The training, or None where no epoch was logged.

    Raises:
        ValueError: If the training's description cannot be read, or is of a later version.
    """
    described = last(events, metadata.RUN)
    if described is None:
        return None
    info = RunInfo.from_json(text_of(described))
    since = _begin_of_probes(events, info)
    current = {tag: [datum for datum in data if datum.wall_time >= since] for tag, data in events.items()}
    numbers = _timeline(current, metadata.NUMBERS, info)
    if not numbers:
        return None
    maps = _timeline(current, metadata.MAPS, info)
    partner_maps = _timeline(current, metadata.PARTNER_MAPS, info)
    epochs = tuple(
        LoggedEpoch(
            step,
            numbers[step].value,
            maps[step].value if step in maps else None,
            partner_maps[step].value if step in partner_maps else None,
            _totals_with(current, numbers[step]),
        )
        for step in sorted(numbers)
        if not maps or step in maps
    )
    if not epochs:
        return None
    report = last(events, metadata.REPORT)
    end = max(datum.wall_time for datum in current[metadata.NUMBERS])
    return LoggedRun(
        info,
        _start(current, info),
        epochs,
        is_finished=report is not None and report.wall_time >= end,
        has_other_probes=any(datum.wall_time < since for datum in events.get(metadata.NUMBERS, ())),
    )


def last(events: Events, tag: str) -> Datum | None:
    """Returns the value of a tag that was written last, or None."""
    return max(events.get(tag, ()), key=lambda datum: datum.wall_time, default=None)


def text_of(datum: Datum) -> str:
    """Returns a logged text."""
    return datum.value.decode(errors="replace")


def _total_name(tag: str) -> str | None:
    """Returns what a scalar about all probes together is called, or None for any other tag."""
    return None if tag in _START_MEANS else metadata.total_name(tag)


def _begin_of_probes(events: Events, info: RunInfo) -> float:
    """Returns when the first training began that has the probes of the last, with none of other probes in between."""
    others = [datum.wall_time for datum in events.get(metadata.RUN, ()) if not _has_probes(datum, info)]
    pictures = last(events, metadata.PICTURES)
    if pictures is not None:
        others += [
            datum.wall_time
            for datum in events[metadata.PICTURES]
            if datum.value != pictures.value
        ]  # fmt: skip
    if not others:
        return -math.inf
    begun = (datum.wall_time for datum in events[metadata.RUN] if datum.wall_time > max(others))
    return min(begun, default=max(others))


def _has_probes(described: Datum, info: RunInfo) -> bool:
    try:
        logged = RunInfo.from_json(text_of(described))
    except ValueError:
        return False
    return (logged.probes, logged.columns) == (info.probes, info.columns)


def _start_numbers(events: Events, info: RunInfo) -> Datum | None:
    numbers = last(events, metadata.START_NUMBERS)
    fits = numbers is not None and numbers.value.shape == (len(info.probes), len(info.columns))
    return numbers if fits else None


def _start(events: Events, info: RunInfo) -> LoggedEpoch | None:
    """Returns the model before its first epoch."""
    numbers = _start_numbers(events, info)
    if numbers is None:
        return None
    maps, partner_maps = (
        None if datum is None or len(datum.value) != len(info.probes) else datum.value
        for datum in (last(events, metadata.START_MAPS), last(events, metadata.START_PARTNER_MAPS))
    )
    return LoggedEpoch(0, numbers.value, maps, partner_maps, _totals_with(events, numbers))


def _timeline(events: Events, tag: str, info: RunInfo) -> dict[int, Datum]:
    """Returns the values of a tag by epoch, without those that a later attempt has replaced."""
    start = _start_numbers(events, info)
    # Drop data from before the latest start from scratch.
    begin = -math.inf if start is None else start.wall_time
    fits = {metadata.NUMBERS: (len(info.probes), len(info.columns))}.get(tag, (len(info.probes),))
    data = latest(datum for datum in events.get(tag, ()) if datum.wall_time >= begin)
    return {datum.step: datum for datum in data if datum.value.shape[: len(fits)] == fits}


def _totals_with(events: Events, numbers: Datum) -> dict[str, float]:
    """Returns the numbers for all probes together that were written just before these numbers, at the same epoch."""
    others = (*events.get(metadata.NUMBERS, ()), *events.get(metadata.START_NUMBERS, ()))
    since = max((datum.wall_time for datum in others if datum.wall_time < numbers.wall_time), default=-math.inf)
    totals = {}
    for tag, data in events.items():
        name = _total_name(tag)
        for datum in data:
            if name is not None and datum.step == numbers.step and since < datum.wall_time <= numbers.wall_time:
                totals[name] = datum.value
    return totals
