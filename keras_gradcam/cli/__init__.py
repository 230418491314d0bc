"""The command line, ``keras-gradcam``: explain pictures, list layers, check maps, rank galleries, read reports."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from ..engine import quiet_log, use_backend
from ..errors import in_one_line
from .arguments import COMMANDS, parse
from .console import print_message, results_alone, warnings_as_lines
from .errors import FAILED, INTERRUPTED, CommandError, describe

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The words after the name of the program; by default those of the process.

    Returns:
        The exit code: 0 if all went well, 1 if some pictures failed, 2 for wrong usage or input, 130 if interrupted.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in words
    try:
        options = parse(words)
        with contextlib.nullcontext() if debug else quiet_log(), warnings_as_lines(), results_alone():
            if getattr(options, "backend", None) is not None:  # of a command that loads a model
                use_backend(options.backend)
            # Only now, and only what the command needs: `--help` must not wait for TensorFlow.
            return int(importlib.import_module(f".{COMMANDS[options.command]}", __name__).run(options))
    except CommandError as error:
        return _fail(str(error), debug)
    except KeyboardInterrupt:
        print_message("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output (head, less) has seen enough; what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError) as error:  # an extra that is not installed says so itself
        return _fail(describe(error), debug)
    except MemoryError:
        return _fail("out of memory. Candidates: a smaller --batch-size.", debug)
    except Exception as error:
        hint = "a smaller --batch-size." if "ResourceExhausted" in type(error).__name__ else "--debug shows where."
        return _fail(f"{type(error).__name__}: {in_one_line(error)} Candidates: {hint}", debug)


def _fail(message: str, debug: bool) -> int:
    """Prints an error, after its traceback when debugging, and returns the exit code."""
    if debug and sys.exc_info()[0] is not None:
        import traceback

        traceback.print_exc()
    print_message(f"error: {message}")
    return FAILED
