"""What a command says on the way: warnings as lines, a progress bar, and nothing of TensorFlow's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from .errors import in_options

# Where results go while everything else that is printed goes to stderr.
_results: TextIO | None = None


@contextlib.contextmanager
def results_alone() -> Iterator[None]:
    """Keeps stdout for what :func:`tell` says: layers of the user's own print, and Keras when it downloads."""
    global _results
    _results = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
        sys.stdout.flush()
    finally:
        _results = None


def tell(text: str) -> None:
    """Prints a result, whatever letters the names in it have and the terminal has not."""
    out = _results or sys.stdout
    encoding = out.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=out)


def say(text: str) -> None:
    """One line on stderr, where it does not mix with results; a progress bar gives way to it."""
    print(f"{_erase()}keras-gradcam: {text}", file=sys.stderr, flush=True)


def _erase() -> str:
    return "\r\033[K" if sys.stderr.isatty() else ""


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Warnings of the package appear once each, as one plain line; those of libraries do not appear."""
    seen: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = in_options(ValueError(str(message)))
        if category in (UserWarning, RuntimeWarning) and "keras_gradcam" in filename and text not in seen:
            seen.add(text)
            say(f"warning: {text}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def quieted(debug: bool) -> Iterator[None]:
    """Silences TensorFlow's log lines, unless the user has set ``TF_CPP_MIN_LOG_LEVEL`` or wants to debug."""
    if debug or "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    try:
        yield
    finally:
        del os.environ["TF_CPP_MIN_LOG_LEVEL"]


def import_keras() -> Any:
    """Imports Keras, and TensorFlow with it, without what they print while they start.

    Some of TensorFlow's lines are written before it reads its own log level, past Python: for the time of the import
    they go to a file, which is shown if the import fails.
    """
    if "tensorflow" in sys.modules or os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        import keras

        return keras
    sys.stderr.flush()
    with tempfile.TemporaryFile() as aside:
        kept = os.dup(2)
        os.dup2(aside.fileno(), 2)
        try:
            import keras
            import tensorflow
            from absl import logging

            logging.set_verbosity(logging.ERROR)
            tensorflow.get_logger().setLevel("ERROR")
            # The first operation sets up devices and says so.
            tensorflow.constant(0)
        except BaseException:
            aside.seek(0)
            os.write(kept, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    return keras


class Progress:
    """A line on stderr that says how far a long work has come.

    On a terminal it is redrawn in place; elsewhere (a log file) a line appears every half minute.

    Args:
        total: How much there is to do.
        shown: False for silence.
    """

    _EVERY = 30.0

    def __init__(self, total: int, shown: bool = True) -> None:
        self._total, self._shown = total, shown
        self._live = sys.stderr.isatty()
        self._began = self._last = time.monotonic()
        self._done = self._skipped = 0

    def skip(self, count: int) -> None:
        """So much had been done before and says nothing about the speed."""
        self._done += count
        self._skipped += count

    def advance(self, count: int = 1) -> None:
        """So much more is done."""
        self._done += count
        now = time.monotonic()
        if self._shown and now - self._last >= (0.1 if self._live else self._EVERY):
            self._last = now
            self._draw(now)

    def clear(self) -> None:
        """Takes the bar away."""
        if self._shown:
            sys.stderr.write(_erase())
            sys.stderr.flush()

    def _draw(self, now: float) -> None:
        rate = (self._done - self._skipped) / max(now - self._began, 1e-9)
        left = time.strftime("%H:%M:%S", time.gmtime((self._total - self._done) / rate)) if rate > 0 else "?"
        words = f"{self._done} of {self._total} pictures, {rate:.1f} a second, {left} left"
        if not self._live:
            say(words)
            return
        width = max(shutil.get_terminal_size().columns - len(words) - 4, 0)
        full = round(width * self._done / max(self._total, 1))
        sys.stderr.write(f"{_erase()}[{'=' * full}{' ' * (width - full)}] {words}")
        sys.stderr.flush()
