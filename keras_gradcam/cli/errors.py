"""What can go wrong, in one line each, and the exit codes that say so."""

from __future__ import annotations

import re
import shlex

from ..errors import ArgumentError, in_one_line

#: Exit codes.
SOME_FAILED, FAILED, INTERRUPTED = 1, 2, 130

#: Arguments of the package, and what they are called on the command line.
OPTIONS = {
    "backend": "--backend",
    "batch_size": "--batch-size",
    "colormap": "--colormap",
    "filters": "--filters",
    "gallery": "--gallery",
    "images": "the pictures",
    "layer": "--layer",
    "max_file_size": "--max-file-size",
    "method": "--method",
    "methods": "--method",
    "metric": "--metric",
    "model": "the model",
    "overwrite": "--overwrite",
    "column": "--sort",
    "path": "RESULTS",
    "pattern": "--pattern",
    "pictures": "--pictures",
    "out": "--out",
    "output": "--output",
    "preprocess": "--preprocess",
    "query": "--query",
    "shard": "--shard",
    "size": "--size",
    "sort": "--sort",
    "target": "--class",
    "top": "--top",
    "value_range": "--range",
    "which": "--output",
}

_ARGUMENT = re.compile(r"`(\w+)`")


class CommandError(Exception):
    """A command cannot be carried out; the message is one line for the person who typed it."""


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
