"""Chooses which means go into Keras' logs, whose progress line prints whatever they hold."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ArgumentError, described
from .history import AVERAGED

#: What the names of the means begin with.
PREFIX = "gradcam_"

#: The `logs` argument of the callback.
LogsLike = str | Sequence[str] | Mapping[str, str]

# The same as pairs (name in the logs, name of the mean).
Choice = str | tuple[tuple[str, str], ...]

# The callback that adds to a History.
_owners: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()

# The numbers about all probes together, where they are pairs or there is a gallery.
_TOTALS = ("similarity_positive", "similarity_negative", "similarity_gap", "mean_ap", "rank_1", "rank_5", "rank_10")

# Of these the first that has a value is logged by default: with two, the progress line would not fit 120 columns.
_DEFAULT = ("mass_inside", "similarity_previous")


def check_logs(logs: Any) -> Choice:
    """Returns the choice as pairs (name in the logs, name of the mean), or "auto" or "all".

    Raises:
        ArgumentError: If it is none of the four forms.

    Example:
        >>> check_logs(["focus"]), check_logs({"attention": "mass_inside"})
        ((('gradcam_focus', 'focus'),), (('attention', 'mass_inside'),))
    """
    known = (*AVERAGED, *_TOTALS)
    if isinstance(logs, str) and logs in ("auto", "all"):
        return logs
    if isinstance(logs, Mapping):
        pairs = list(logs.items())
    elif isinstance(logs, (list, tuple)):
        pairs = [(f"{PREFIX}{name}", name) for name in logs]
    else:
        pairs = [(None, None)]
    if not all(isinstance(name, str) and isinstance(mean, str) and mean in known for name, mean in pairs):
        raise ArgumentError(
            "logs", "be 'auto', 'all', a list of means or a dict that names them", described(logs), known
        )
    return tuple(pairs)


def chosen_means(chosen: Choice, means: Mapping[str, float]) -> dict[str, float]:
    """Returns what goes into the logs, by name. A mean without a value is left out, not NaN.

    EarlyStopping would keep a first NaN as its best value.

    Example:
        >>> chosen_means("auto", {"focus": 0.4, "similarity_previous": 0.9})
        {'gradcam_similarity_previous': 0.9}
    """
    if isinstance(chosen, str):
        names = list(means) if chosen == "all" else [name for name in _DEFAULT if name in means][:1]
        chosen = tuple((f"{PREFIX}{name}", name) for name in names)
    return {name: means[mean] for name, mean in chosen if mean in means}


def add_to_history(model: Any, owner: Any, named: Mapping[str, float], logs: Mapping[str, Any]) -> None:
    """Adds values to the History that ``fit`` returns, except those that the logs bring into it anyway.

    Args:
        model: The model in training.
        owner: The callback. Of several in one training the first alone adds its values: they have the same names.
        named: The values by name.
        logs: The logs of this epoch.
    """
    history = getattr(model, "history", None)
    values = getattr(history, "history", None)
    if not isinstance(values, dict) or _owners.setdefault(history, weakref.ref(owner))() is not owner:
        return
    for name, value in named.items():
        if name not in logs:
            values.setdefault(name, []).append(value)
