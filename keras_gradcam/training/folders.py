"""Folders of timelines: one for each trial where the name has a place for its number, and a word where one is lost."""

from __future__ import annotations

import os

from ..files import is_used_by_another_process
from .notices import warn
from .writers.storage import storage_of

#: Stands in a folder's name for the number of a trial.
TRIAL = "{trial}"


def own_folder(folder: str) -> str:
    """Returns the folder that a training writes to: for ``{trial}`` the first number that no folder has yet.

    The part of the path that holds the number is made at once, so that trials that run side by side get one each.

    Example:
        >>> import tempfile
        >>> above = tempfile.mkdtemp()
        >>> [os.path.basename(own_folder(above + "/fold{trial}")) for _ in range(3)]
        ['fold0', 'fold1', 'fold2']
    """
    folder = os.path.expanduser(folder)
    if TRIAL not in folder:
        return folder
    before, _, after = folder.partition(TRIAL)
    name, separator, below = after.partition("/")
    storage = storage_of(folder)
    number = 0
    while True:
        numbered = f"{before}{number}{name}"
        try:
            storage.make_folder(numbered, new=True)
        except FileExistsError:
            number += 1
        else:
            return numbered + separator + below.replace(TRIAL, str(number))


def unused_folder(directory: str) -> str:
    """Returns a folder that no other process writes to: the given one, or else one beside it, with a warning."""
    unused, number = directory, 1
    while "://" not in directory and is_used_by_another_process(unused):
        number += 1
        unused = f"{directory}-{number}"
    if unused != directory:
        warn(
            f"Another process writes to {directory!r}, and TensorBoard would show one of the two: this training is "
            f"logged in {unused!r}. Give each a `log_dir` of its own, such as log_dir='logs/run{TRIAL}'.",
            stacklevel=5,
        )
    return unused


def holds_timeline(directory: str) -> bool:
    """Returns whether there are event files in a folder."""
    return any("tfevents" in name for name in storage_of(directory).names(directory))


def warn_about_replacement(directory: str) -> None:
    """Warns that a training which starts anew replaces the timeline in a folder."""
    warn(
        f"The timeline of an earlier training in {directory!r} is replaced by that of this one. To keep both, give "
        f"each training a `log_dir` of its own, such as log_dir='logs/run{TRIAL}', which counts them. A training that "
        "goes on with `initial_epoch`, or with the same model and callback, continues its timeline.",
        stacklevel=4,
    )
