"""The command line, ``keras-gradcam``: explain pictures, list layers, rank galleries, read reports."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from .arguments import COMMANDS, parsed
from .console import quieted, results_alone, say, warnings_as_lines
from .errors import FAILED, INTERRUPTED, CommandError, in_one_line, in_options

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
        options = parsed(words)
        with quieted(debug), warnings_as_lines(), results_alone():
            # Only now, and only what the command needs: `--help` must not wait for TensorFlow.
            return int(importlib.import_module(f".{COMMANDS[options.command]}", __name__).run(options))
    except CommandError as failure:
        return _failed(str(failure), debug)
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output (head, less) has seen enough; what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        return _failed(in_options(error), debug)
    except MemoryError:
        return _failed("out of memory. Candidates: a smaller --batch-size.", debug)
    except Exception as error:
        hint = "a smaller --batch-size." if "ResourceExhausted" in type(error).__name__ else "--debug shows where."
        return _failed(f"{type(error).__name__}: {in_one_line(error)} Candidates: {hint}", debug)


def _failed(message: str, debug: bool) -> int:
    if debug and sys.exc_info()[0] is not None:
        import traceback

        traceback.print_exc()
    say(f"error: {message}")
    return FAILED
