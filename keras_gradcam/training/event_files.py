"""Reads what a training has logged back from TensorBoard's event files."""

from __future__ import annotations

import math
import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..tensorboard_plugin import metadata
from ..tensorboard_plugin.metadata import RunInfo
from ..tensorboard_plugin.reader import latest
from .history import COMPARED, EpochRecord, History, compared
from .report import drift_report

_REPORT = "gradcam/report"

#: Where the numbers for all probes together stand.
_TOTALS = ("gradcam_pairs/", "gradcam_retrieval/", "gradcam_start/")

#: Pictures of epochs stay on disk: a long run has gigabytes of them.
_TAGS = frozenset(
    {
        _REPORT,
        metadata.RUN,
        metadata.PICTURES,
        metadata.MAPS,
        metadata.NUMBERS,
        metadata.PARTNER_MAPS,
        metadata.START_MAPS,
        metadata.START_NUMBERS,
    }
)


@dataclass(eq=False)
class Datum:
    """A logged value: what TensorBoard calls a tensor event.

    Attributes:
        step: The epoch.
        wall_time: When it was written.
        value: The array or the text.
    """

    step: int
    wall_time: float
    value: Any


def event_files(logdir: str) -> dict[str, list[str]]:
    """Folder to its event files, in the order in which they were begun."""
    found: dict[str, list[str]] = {}
    for folder, _, names in os.walk(logdir):
        files = sorted(name for name in names if "tfevents" in name)
        if files:
            found[folder] = files
    return found


def read_events(folder: str, files: Sequence[str]) -> dict[str, list[Datum]]:
    """What the callback logged in a folder, by tag."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.compat.proto.types_pb2 import DT_FLOAT
    from tensorboard.util.tensor_util import make_ndarray

    found: dict[str, list[Datum]] = defaultdict(list)
    for name in files:
        path = os.path.join(folder, name)
        try:
            # A file that was torn by a killed process ends where it was torn.
            for event in EventFileLoader(path).Load():
                for value in event.summary.value:
                    if value.tag in _TAGS or (value.tag.startswith(_TOTALS) and value.tensor.dtype == DT_FLOAT):
                        found[value.tag].append(Datum(event.step, event.wall_time, make_ndarray(value.tensor)))
        except Exception as error:  # whatever a broken file makes TensorBoard raise
            warnings.warn(f"{path!r} can be read in part only: {error}", UserWarning, stacklevel=2)
    return found


def joined_report(data: dict[str, list[Datum]]) -> str | None:
    """What the callback logged in words, all attempts of a resumed training together; None if it logged nothing."""
    written, described = _last(data, _REPORT), _last(data, metadata.RUN)
    if described is None:
        return None if written is None else _text(written)
    try:
        info = RunInfo.from_json(_text(described))
    except ValueError as error:
        return f"{error}\n"
    since = _since(data, info)
    kept = {tag: [datum for datum in found if datum.wall_time >= since] for tag, found in data.items()}
    history = _history(kept, info)
    if history is None:
        return "No epoch was logged.\n"
    notes = ""
    if written is None or written.wall_time < max(datum.wall_time for datum in kept[metadata.NUMBERS]):
        notes += "The training has not come to its end; this is how far it got.\n\n"
    if any(datum.wall_time < since for datum in data[metadata.NUMBERS]):
        notes += "What was logged of other probes before is left out.\n\n"
    return notes + drift_report(history, lambda probe: _probe_name(info, probe))


def _since(data: dict[str, list[Datum]], info: RunInfo) -> float:
    """When the first training began that had the probes of the last, with none of other probes in between."""
    pictures = _last(data, metadata.PICTURES)
    others = [datum.wall_time for datum in data.get(metadata.RUN, ()) if not _has_probes(datum, info)]
    if pictures is not None:
        same = pictures.value
        others += [datum.wall_time for datum in data[metadata.PICTURES] if not np.array_equal(datum.value, same)]
    if not others:
        return -math.inf
    return min(datum.wall_time for datum in data[metadata.RUN] if datum.wall_time > max(others))


def _has_probes(described: Datum, info: RunInfo) -> bool:
    try:
        other = RunInfo.from_json(_text(described))
    except ValueError:
        return False
    return (other.probes, other.columns) == (info.probes, info.columns)


def _history(data: dict[str, list[Datum]], info: RunInfo) -> History | None:
    """The run as the callback would know it had it seen all of it; None without an epoch."""
    shape = len(info.probes), len(info.columns)
    start = _last(data, metadata.START_NUMBERS)
    if start is not None and start.value.shape != shape:
        start = None
    # What is older than the start was given up.
    begun = -math.inf if start is None else start.wall_time
    numbers = {
        datum.step: datum
        for datum in latest(datum for datum in data.get(metadata.NUMBERS, ()) if datum.wall_time >= begun)
        if datum.value.shape == shape
    }
    found = latest(datum for datum in data.get(metadata.MAPS, ()) if datum.wall_time >= begun)
    maps = {datum.step: datum.value for datum in found if len(datum.value) == len(info.probes)}
    epochs = [step for step in sorted(numbers) if not maps or step in maps]
    if not epochs:
        return None
    first = None if start is None else _start(data, start)
    kept = [maps[epoch] for epoch in epochs] if maps else []
    stacked = np.stack([numbers[epoch].value for epoch in epochs])
    columns = {name: stacked[..., place] for place, name in enumerate(info.columns)}
    _compare(columns, kept, first)
    totals = [_totals(data, numbers[epoch]) for epoch in epochs]
    return History(
        start=first,
        epochs=np.array(epochs),
        maps=np.stack(kept) if kept and len({one.shape for one in kept}) == 1 else kept or None,
        numbers=columns,
        totals={
            name: np.array([known.get(name, np.nan) for known in totals])
            for name in dict.fromkeys(name for known in totals for name in known)
        },
    )


def _start(data: dict[str, list[Datum]], numbers: Datum) -> EpochRecord:
    maps = _last(data, metadata.START_MAPS)
    known = None if maps is None or len(maps.value) != len(numbers.value) else maps.value
    return EpochRecord(None, known, numbers.value, totals=_totals(data, numbers))


def _compare(columns: dict[str, np.ndarray], maps: Sequence[np.ndarray], start: EpochRecord | None) -> None:
    """Compares all maps anew: a training that was resumed knew none of those before."""
    seen = [] if start is None else [start.maps]
    for row, now in enumerate(maps):
        known = compared(now, seen[-1], seen[0]) if seen else {}
        for name in COMPARED:
            columns[name][row] = known.get(name, np.nan)
        seen.append(now)


def _totals(data: dict[str, list[Datum]], numbers: Datum) -> dict[str, float]:
    """The numbers for all probes together that were written with these: after those before, whatever their epoch."""
    others = (*data.get(metadata.NUMBERS, ()), *data.get(metadata.START_NUMBERS, ()))
    since = max((datum.wall_time for datum in others if datum.wall_time < numbers.wall_time), default=-math.inf)
    return {
        tag.split("/", 1)[1]: float(datum.value)
        for tag, found in data.items()
        if tag.startswith(_TOTALS)
        for datum in found
        if datum.step == numbers.step and since < datum.wall_time <= numbers.wall_time
    }


def _last(data: dict[str, list[Datum]], tag: str) -> Datum | None:
    return max(data.get(tag, ()), key=lambda datum: datum.wall_time, default=None)


def _probe_name(info: RunInfo, probe: int) -> str:
    label = info.probes[probe].label if probe < len(info.probes) else None
    return f"{probe:02d}" if label is None else f"{probe:02d} {info.class_names.get(label, f'{info.label} {label}')}"


def _text(datum: Datum) -> str:
    value = datum.value.item()
    return value.decode() if isinstance(value, bytes) else str(value)
