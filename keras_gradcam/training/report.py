"""The drift of a training in words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..drawing.class_names import class_name
from ..drawing.notebook import Markdown
from ..metrics.drift import rank_correlation, settled_epoch
from ..metrics.statistics import mean_of_present
from ..tensorboard_plugin import metadata
from ..tensorboard_plugin.metadata import RunInfo
from .event_files import Events, last, select_run, text_of
from .history import AVERAGED, COMPARED, History


def drift_report(history: History, label: Callable[[int], str]) -> str:
    """Reports as Markdown which probes moved most, when each settled, where predictions flipped.

    Args:
        history: The training.
        label: Gives each probe's name by its index.

    Returns:
        Markdown: one line on the training, a table of the means at both ends, and a table of the probes, the one that
        moved most first.
    """
    if not len(history.epochs):
        return Markdown("No epoch was logged.\n")
    epochs, probes = history.epochs, history.numbers["score"].shape[1]
    if len(epochs) == 1:
        logged = f"1 epoch logged, epoch {epochs[0]}"
    else:
        logged = f"{len(epochs)} epochs logged, {epochs[0]} to {epochs[-1]}"
    lines = [f"{logged}; {probes} probe{'s' if probes != 1 else ''}. Epochs count from 0.", ""]
    lines += ["| mean over probes | start | first epoch | last epoch | missing at the end |", "|---|---|---|---|---|"]
    lines += [*_mean_rows(history), *_total_rows(history), *_empty_first_maps(history), ""]
    lines += ["The probes, the one that moved most first:", ""]
    lines += ["| probe | moved | settled | prediction flipped |", "|---|---|---|---|"]
    lines += [*_probe_rows(history, label), ""]
    lines += [
        "Moved: mean of 1 - rank correlation to the previous logged epoch. Settled: first epoch from which on the map "
        "stayed within a total variation of 0.1 of the last one.",
    ]
    return Markdown("\n".join(lines) + "\n")


def logged_report(events: Events) -> str | None:
    """Reports on the training that a folder's events tell of, all attempts of a resumed training together.

    Args:
        events: As :func:`keras_gradcam.training.event_files.read_events` returns them.

    Returns:
        Markdown, or None if the callback logged nothing there. Without a description of the training it is the report
        that the callback wrote itself.
    """
    if last(events, metadata.RUN) is None:
        written = last(events, metadata.REPORT)
        return None if written is None else text_of(written)
    try:
        run = select_run(events)
    except ValueError as error:
        return f"{error}\n"
    if run is None:
        return "No epoch was logged.\n"
    notes = ""
    if not run.is_finished:
        notes += "The training has not come to its end; this is how far it got.\n\n"
    if run.has_other_probes:
        notes += "What was logged of other probes before is left out.\n\n"
    return notes + drift_report(History.of_run(run), lambda index: probe_name(run.info, index))


def probe_name(info: RunInfo, index: int) -> str:
    """Returns the name of a probe in reports: its index, and the name of its class or identity.

    Example:
        >>> from keras_gradcam.tensorboard_plugin.metadata import ProbeInfo
        >>> probe_name(RunInfo((8, 8), (ProbeInfo(3),), class_names={3: "cat"}), 0)
        '00 cat'
    """
    label = info.probes[index].label
    return f"{index:02d}" if label is None else f"{index:02d} {class_name(label, info.class_names, info.label)}"


def _mean_rows(history: History) -> list[str]:
    """Returns a row for each column of numbers that has values or should have: its mean over the probes."""
    rows = []
    expected = _expected(history)
    for name in AVERAGED:
        values = history.numbers[name]
        if np.isnan(values).all() and name not in expected:
            continue
        start = float("nan") if history.start is None else mean_of_present(history.start.column(name))[0]
        mean, missing = mean_of_present(values[-1])
        cells = [name.replace("_", " "), _number(start), _number(mean_of_present(values[0])[0]), _number(mean)]
        rows.append(f"| {' | '.join(cells)} | {missing} |")
    return rows


def _total_rows(history: History) -> list[str]:
    """Returns a row for each number about all probes together."""
    rows = []
    for name, over_time in history.totals.items():
        start = float("nan") if history.start is None else history.start.totals.get(name, float("nan"))
        present = np.flatnonzero(~np.isnan(over_time))
        ends = [_dated(history, over_time, present[end], end) for end in (0, -1)] if len(present) else ["-", "-"]
        rows.append(f"| {' | '.join([name.replace('_', ' '), _number(start), *ends])} | - |")
    return rows


def _probe_rows(history: History, label: Callable[[int], str]) -> list[str]:
    """Returns a row for each probe, the one that moved most first."""
    similarity = history.numbers["similarity_previous"]
    moved = [mean_of_present(1 - similarity[:, index])[0] for index in range(similarity.shape[1])]
    order = sorted(range(len(moved)), key=lambda index: -np.nan_to_num(moved[index], nan=-1))
    return [
        f"| {_cell(label(index))} | {_number(moved[index])} | {_settled(history, index)} | {_flips(history, index)} |"
        for index in order
    ]


def _expected(history: History) -> set[str]:
    """Returns the columns that must have values; comparisons need an earlier map."""
    if history.maps is None:
        return set()
    earlier = len(history.maps) - 1 + (history.start is not None and history.start.maps is not None)
    return {"focus", "mass", *(COMPARED if earlier else ())}


def _empty_first_maps(history: History) -> list[str]:
    """Says why probes have no similarity to the first map, if that is what is wrong with it."""
    if history.maps is None or "similarity_first" not in _expected(history):
        return []
    start = history.start
    first = history.maps[0] if start is None else start.maps
    if first is None:
        return []
    empty = np.isnan(rank_correlation(first, first))
    if not empty.any():
        return []
    which = f"epoch {history.epochs[0]}" if start is None else "start"
    why = "zero everywhere" if not first[empty].any() else "the same everywhere or not finite"
    return [
        "",
        f"The first map ({which}) of {empty.sum()} of {len(empty)} probes is {why}: they have no similarity to it.",
    ]


def _dated(history: History, over_time: np.ndarray, row: int, end: int) -> str:
    """Formats a number for the column of an end of the training; one of another epoch says of which."""
    shown = _number(over_time[row])
    return shown if row == range(len(over_time))[end] else f"{shown} (epoch {history.epochs[row]})"


def _settled(history: History, index: int) -> str:
    if not isinstance(history.maps, np.ndarray):
        return "unknown"
    row = settled_epoch(history.maps[:, index])
    if row is None:
        return "no map at the end"
    return "still moving" if row == len(history.epochs) - 1 and row > 0 else f"epoch {history.epochs[row]}"


def _flips(history: History, index: int) -> str:
    """Says how often and when a prediction changed."""
    predicted = history.numbers["predicted"][:, index]
    if np.isnan(predicted).all():
        return "no classes"
    before = predicted[:1] if history.start is None else history.start.column("predicted")[index : index + 1]
    present = ~np.isnan(predicted)
    changes = np.concatenate([before, predicted[present]])
    flips = history.epochs[present][changes[1:] != changes[:-1]]
    if not len(flips):
        return "never"
    shown = ", ".join(str(epoch) for epoch in flips[-5:])
    times = "once" if len(flips) == 1 else f"{len(flips)} times"
    return f"{times}, {'last ' if len(flips) > 5 else ''}at {shown}"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3g}"


def _cell(text: str) -> str:
    """Formats text so that it cannot break out of a table cell."""
    return "".join(f"\\{c}" if c in "|\\`*_<>[]" else c if c.isprintable() else " " for c in text)
