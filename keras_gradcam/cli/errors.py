"""What can go wrong, in one line each, and the exit codes that say so."""

from __future__ import annotations

import re

#: Exit codes.
SOME_FAILED, FAILED, INTERRUPTED = 1, 2, 130


_LONGEST = 600

# The package speaks of its arguments; who typed a command knows options.
_OPTIONS = {
    "`target` must name one of the model's outputs": "--output must name one of the model's outputs",
    "`layer`": "--layer",
    "`methods`": "--method",
    "`target`": "--class",
    "`which`": "--output",
    "`batch_size`": "--batch-size",
    "`model`": "the model",
    "`images`": "the pictures",
    "`filters`": "--filters",
    "`top`": "--top",
    "`colormap`": "--colormap",
    "`query`": "--query",
    "`gallery`": "--gallery",
    "Output(": "--output ",
    'methods=("gradcam",)': "--method gradcam",
}


class CommandError(Exception):
    """A command cannot be carried out; the message is one line for the person who typed it."""


class PictureError(Exception):
    """One picture cannot be explained; the others can."""


def in_one_line(error: BaseException | str) -> str:
    r"""A message without line breaks, cut where it becomes an essay.

    Example:
        >>> in_one_line("No such\n  file")
        'No such file'
    """
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def in_options(error: Exception) -> str:
    """The message of an error of the package or of the system, in words of the command line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename!r}" if error.filename else error.strerror
    text = in_one_line(error)
    for argument, option in _OPTIONS.items():
        text = text.replace(argument, option)
    # Output('species', Class()) -> --output species
    return re.sub(r"--output '?([^',]+)'?, (?:[^()]|\([^()]*\))*\)", r"--output \1", text)
