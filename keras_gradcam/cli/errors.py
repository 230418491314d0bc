"""What can go wrong, in one line each, and the exit codes that say so."""

from __future__ import annotations

import re
import shlex

from ..errors import ArgumentError

#: Exit codes.
SOME_FAILED, FAILED, INTERRUPTED = 1, 2, 130

# Messages are cut after this number of characters.
_LONGEST = 600

#: Arguments of the package, and what they are called on the command line.
OPTIONS = {
    "batch_size": "--batch-size",
    "colormap": "--colormap",
    "filters": "--filters",
    "gallery": "--gallery",
    "images": "the pictures",
    "layer": "--layer",
    "method": "--method",
    "methods": "--method",
    "metric": "--metric",
    "model": "the model",
    "output": "--output",
    "query": "--query",
    "sort": "--sort",
    "target": "--class",
    "top": "--top",
    "which": "--output",
}

_ARGUMENT = re.compile(r"`(\w+)`")


class CommandError(Exception):
    """A command cannot be carried out; the message is one line for the person who typed it."""


class PictureError(Exception):
    """One picture cannot be explained; the others can."""


def in_one_line(error: BaseException | str) -> str:
    r"""Returns a message without line breaks, cut where it becomes an essay.

    Example:
        >>> in_one_line("No such\n  file")
        'No such file'
    """
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def in_options(text: str) -> str:
    """Replaces the arguments that a text of the package names by the options of the command line.

    Example:
        >>> in_options("Without a `layer` ...")
        'Without a --layer ...'
    """
    return _ARGUMENT.sub(lambda argument: OPTIONS.get(argument[1], argument[0]), in_one_line(text))


def describe(error: Exception) -> str:
    """Returns the message of an error of the package or of the system, in words of the command line.

    Example:
        >>> describe(ArgumentError("layer", "name a layer", "'conv9'", ["'conv1'", "'conv2'"]))
        "--layer must name a layer. Received: 'conv9'. Candidates: 'conv1', 'conv2'."
    """
    if isinstance(error, ArgumentError):
        candidates = ", ".join([shlex.quote(str(value)) for value in error.values] or error.candidates)
        sentences = [
            f"{OPTIONS.get(error.name, f'`{error.name}`')} must {error.requirement}",
            f"Received: {error.received}",
            *([f"Candidates: {candidates}"] if candidates else []),
        ]
        return in_options(". ".join(sentences) + ".")
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename!r}" if error.filename else error.strerror
    return in_options(str(error))
