"""The drift of a run in words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..metrics.drift import rank_correlation, settled_epoch
from ..metrics.statistics import mean_of_present
from .history import COMPARED, DRIFT_COLUMNS, History


def drift_report(history: History, label: Callable[[int], str]) -> str:
    """A Markdown summary: which probes moved most, when each settled, where predictions flipped.

    Args:
        history: The run.
        label: Gives each probe's name by its number.

    Returns:
        Markdown: one line on the run, a table of the means at both ends, and a table of the probes, the one that moved
        most first.
    """
    if not len(history.epochs):
        return "No epoch was logged.\n"
    epochs, numbers = history.epochs, history.numbers
    probes = numbers["score"].shape[1]
    if len(epochs) == 1:
        logged = f"1 epoch logged, epoch {epochs[0]}"
    else:
        logged = f"{len(epochs)} epochs logged, {epochs[0]} to {epochs[-1]}"
    lines = [f"{logged}; {probes} probe{'s' if probes != 1 else ''}. Epochs count from 0.", ""]
    reported = ("score", "probability", *DRIFT_COLUMNS)
    before = {} if history.start is None else {name: history.start.column(name) for name in reported}
    expected = _expected(history)
    lines += ["| mean over probes | start | first epoch | last epoch | missing at the end |", "|---|---|---|---|---|"]
    for name in reported:
        values = numbers[name]
        if np.isnan(values).all() and name not in expected:
            continue
        mean, missing = mean_of_present(values[-1])
        begin = mean_of_present(before[name])[0] if name in before else float("nan")
        lines.append(
            f"| {name.replace('_', ' ')} | {_number(begin)} | {_number(mean_of_present(values[0])[0])} "
            f"| {_number(mean)} | {missing} |"
        )
    for name, over_time in history.totals.items():
        begin = float("nan") if history.start is None else history.start.totals.get(name, float("nan"))
        known = np.flatnonzero(~np.isnan(over_time))
        first, last = (_dated(history, over_time, known[end], end) for end in (0, -1)) if len(known) else ("-", "-")
        lines.append(f"| {name.replace('_', ' ')} | {_number(begin)} | {first} | {last} | - |")
    lines += _empty_first_maps(history)
    lines += [
        "",
        "The probes, the one that moved most first:",
        "",
        "| probe | moved | settled | prediction flipped |",
        "|---|---|---|---|",
    ]
    moved = [_moved(numbers["similarity_previous"][:, probe]) for probe in range(probes)]
    order = sorted(range(probes), key=lambda probe: -np.nan_to_num(moved[probe], nan=-1))
    for probe in order:
        lines.append(
            f"| {_cell(label(probe))} | {_number(moved[probe])} | {_settled(history, probe)} "
            f"| {_flips(history, probe)} |"
        )
    lines += [
        "",
        "Moved: mean of 1 - rank correlation to the previous logged epoch. Settled: first epoch from which on the map "
        "stayed within a total variation of 0.1 of the last one.",
    ]
    return "\n".join(lines) + "\n"


def _expected(history: History) -> set[str]:
    """The columns that have values unless maps are missing: those that compare need a map to compare with."""
    if history.maps is None:
        return set()
    earlier = len(history.maps) - 1 + (history.start is not None and history.start.maps is not None)
    return {"focus", "mass", *(COMPARED if earlier else ())}


def _empty_first_maps(history: History) -> list[str]:
    """Why probes have no similarity to the first map, if that is what is wrong with it."""
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


def _dated(history: History, over_time: np.ndarray, at: int, end: int) -> str:
    """A number for the column of an end of the run; one of another epoch says of which."""
    shown = _number(over_time[at])
    return shown if at == range(len(over_time))[end] else f"{shown} (epoch {history.epochs[at]})"


def _moved(similarity: np.ndarray) -> float:
    return mean_of_present(1 - similarity)[0]


def _settled(history: History, probe: int) -> str:
    if not isinstance(history.maps, np.ndarray):
        return "unknown"
    at = settled_epoch(history.maps[:, probe])
    if at is None:
        return "no map at the end"
    return "still moving" if at == len(history.epochs) - 1 and at > 0 else f"epoch {history.epochs[at]}"


def _flips(history: History, probe: int) -> str:
    predicted = history.numbers["predicted"][:, probe]
    if np.isnan(predicted).all():
        return "no classes"
    before = predicted[:1] if history.start is None else history.start.column("predicted")[probe : probe + 1]
    known = ~np.isnan(predicted)
    changes = np.concatenate([before, predicted[known]])
    flips = history.epochs[known][changes[1:] != changes[:-1]]
    if not len(flips):
        return "never"
    shown = ", ".join(str(epoch) for epoch in flips[-5:])
    times = "once" if len(flips) == 1 else f"{len(flips)} times"
    return f"{times}, {'last ' if len(flips) > 5 else ''}at {shown}"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3g}"


def _cell(text: str) -> str:
    """Text that cannot break out of a table cell."""
    return "".join(f"\\{c}" if c in "|\\`*_<>[]" else c if c.isprintable() else " " for c in text)
