"""``keras-gradcam report``: how attention moved during a training, out of its event files."""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..history import History, Moment
from ..plugin import metadata
from ..plugin.metadata import RunInfo
from ..plugin.reading import latest
from ..report import drift_report
from .console import import_keras, say, tell
from .errors import CommandError, in_one_line

_REPORT = "gradcam/report"
#: Pictures stay on disk: a long run has gigabytes of them.
_TAGS = frozenset(
    {
        _REPORT,
        metadata.RUN,
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


def run(options: argparse.Namespace) -> int:
    """Prints reports; returns the exit code."""
    if not os.path.isdir(options.logdir):
        raise CommandError(f"LOGDIR must be a folder. Received: {options.logdir!r}.")
    import_keras()  # TensorBoard reads with TensorFlow where there is one, which is loud when it starts
    reports = {}
    for folder, files in _event_files(options.logdir).items():
        data = _logged(folder, files)
        text = _report(data)
        if text is not None:
            reports[os.path.relpath(folder, options.logdir)] = text
    if not reports:
        raise CommandError(
            f"no training was logged by GuidedGradCAMCallback in {options.logdir!r}. "
            "Candidates: the log_dir that it was given."
        )
    for name, text in sorted(reports.items()):
        tell(f"# {name}\n\n{text}" if len(reports) > 1 else text)
    return 0


def _event_files(logdir: str) -> dict[str, list[str]]:
    """Folder to its event files, in the order in which they were begun."""
    found: dict[str, list[str]] = {}
    for folder, _, names in os.walk(logdir):
        files = sorted(name for name in names if "tfevents" in name)
        if files:
            found[folder] = files
    return found


def _logged(folder: str, files: Sequence[str]) -> dict[str, list[Datum]]:
    """What the callback logged in a folder, by tag."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    found: dict[str, list[Datum]] = defaultdict(list)
    for name in files:
        path = os.path.join(folder, name)
        try:
            # A file that was torn by a killed process ends where it was torn.
            for event in EventFileLoader(path).Load():
                for value in event.summary.value:
                    if value.tag in _TAGS:
                        found[value.tag].append(Datum(event.step, event.wall_time, make_ndarray(value.tensor)))
        except Exception as error:  # whatever a broken file makes TensorBoard raise
            say(f"warning: {path!r} can be read in part only: {in_one_line(error)}")
    return found


def _report(data: dict[str, list[Datum]]) -> str | None:
    """The report that the callback wrote, or one of what it logged since; None if it logged nothing."""
    written = max(data.get(_REPORT, ()), key=lambda datum: datum.wall_time, default=None)
    numbers = latest(data.get(metadata.NUMBERS, ()))
    if written is not None and (not numbers or written.wall_time >= max(datum.wall_time for datum in numbers)):
        return _text(written)
    described = max(data.get(metadata.RUN, ()), key=lambda datum: datum.wall_time, default=None)
    if described is None:
        return None
    try:
        info = RunInfo.from_json(_text(described))
    except ValueError as error:
        return f"{error}\n"
    if not numbers:
        return "No epoch was logged.\n"
    note = "The training has not come to its end; this is how far it got.\n\n"
    return note + drift_report(_history(data, info), lambda probe: _probe_name(info, probe))


def _history(data: dict[str, list[Datum]], info: RunInfo) -> History:
    numbers = {datum.step: datum.value for datum in latest(data[metadata.NUMBERS])}
    maps = {datum.step: datum.value for datum in latest(data.get(metadata.MAPS, ()))}
    epochs = [step for step in sorted(numbers) if not maps or step in maps]
    stacked = np.stack([numbers[epoch] for epoch in epochs])
    kept = [maps[epoch] for epoch in epochs] if maps else []
    return History(
        start=_start(data),
        epochs=np.array(epochs),
        maps=np.stack(kept) if kept and len({one.shape for one in kept}) == 1 else kept or None,
        numbers={name: stacked[..., place] for place, name in enumerate(info.columns)},
    )


def _start(data: dict[str, list[Datum]]) -> Moment | None:
    numbers = latest(data.get(metadata.START_NUMBERS, ()))
    maps = latest(data.get(metadata.START_MAPS, ()))
    return Moment(None, maps[-1].value if maps else None, numbers[-1].value) if numbers else None


def _probe_name(info: RunInfo, probe: int) -> str:
    label = info.probes[probe].label if probe < len(info.probes) else None
    what = "identity" if info.pairs else "class"
    return f"{probe:02d}" if label is None else f"{probe:02d} {info.class_names.get(label, f'{what} {label}')}"


def _text(datum: Datum) -> str:
    value = datum.value.item()
    return value.decode() if isinstance(value, bytes) else str(value)
