"""What a command prints: results on stdout; messages, warnings and a progress bar on stderr."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from typing import TextIO

from ..errors import printable
from .errors import in_options

# Where results go while everything else that is printed goes to stderr.
_results: TextIO | None = None


@contextlib.contextmanager
def results_alone() -> Iterator[None]:
    """Keeps stdout for what :func:`print_result` prints.

    Layers of the user's own may print, and so does Keras when it downloads: all of that goes to stderr.
    """
    global _results
    _results = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
        sys.stdout.flush()
    finally:
        _results = None


def print_result(text: str) -> None:
    """Prints a result, in the place of a progress bar; letters that the terminal does not have are escaped."""
    stream = _results or sys.stdout
    sys.stderr.write(_erase())
    encoding = stream.encoding or "utf-8"
    print(printable(text).encode(encoding, "backslashreplace").decode(encoding), file=stream)


def print_message(text: str) -> None:
    """Prints one line on stderr, where it does not mix with results; it takes the place of a progress bar."""
    print(f"{_erase()}keras-gradcam: {printable(text)}", file=sys.stderr, flush=True)


def _erase() -> str:
    return "\r\033[K" if sys.stderr.isatty() else ""


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Shows warnings of the package once each, as one plain line, and hides those of libraries."""
    seen: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = in_options(str(message))
        if category in (UserWarning, RuntimeWarning) and "keras_gradcam" in filename and text not in seen:
            seen.add(text)
            print_message(f"warning: {text}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield


def outcome(explained: int, before: int, failed: int, layer: str | None) -> str:
    """Says how many pictures a run has explained, and at which layer.

    Example:
        >>> outcome(2, 5, 0, "conv5")
        '2 explained, 5 explained before at layer conv5'
    """
    parts = [f"{explained} explained"] if explained or not before else []
    if before:
        parts.append(f"{before} explained before")
    if failed:
        parts.append(f"{failed} failed")
    return ", ".join(parts) + (f" at layer {layer}" if layer else "")


class Progress:
    """A line on stderr that says how many pictures of a long run are done.

    On a terminal it is redrawn in place; elsewhere (a log file) a line appears every half minute.

    Args:
        total: The number of pictures.
        shown: False for silence.
    """

    # Seconds between two lines.
    _LIVE_INTERVAL, _LOG_INTERVAL = 0.1, 30.0

    def __init__(self, total: int, shown: bool = True) -> None:
        self._total, self._shown = total, shown
        self._live = sys.stderr.isatty()
        self._start = self._last = time.monotonic()
        self._done = self._skipped = 0

    def skip(self, count: int) -> None:
        """Counts pictures that were done by an earlier run, and say nothing about the speed."""
        self._done += count
        self._skipped += count

    def advance(self, count: int = 1) -> None:
        """Counts pictures that are done now."""
        self._done += count
        now = time.monotonic()
        if self._shown and now - self._last >= (self._LIVE_INTERVAL if self._live else self._LOG_INTERVAL):
            self._last = now
            self._draw(now)

    def clear(self) -> None:
        """Erases the bar."""
        if self._shown:
            sys.stderr.write(_erase())
            sys.stderr.flush()

    def _draw(self, now: float) -> None:
        rate = (self._done - self._skipped) / max(now - self._start, 1e-9)
        left = time.strftime("%H:%M:%S", time.gmtime((self._total - self._done) / rate)) if rate > 0 else "?"
        words = f"{self._done} of {self._total} pictures, {rate:.1f} a second, {left} left"
        if not self._live:
            print_message(words)
            return
        width = max(shutil.get_terminal_size().columns - len(words) - 4, 0)
        full = round(width * self._done / max(self._total, 1))
        sys.stderr.write(f"{_erase()}[{'=' * full}{' ' * (width - full)}] {words}")
        sys.stderr.flush()
