"""A writer that hands its work to one background thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from .base import LogEntry, Run, Summary, Writer

# Entries that may wait: when training is faster than drawing, it waits rather than piling up pictures.
_WAITING = 2


class BackgroundWriter:
    """Writes to ``writer`` from a thread of its own, in order; drawing and encoding leave the training thread free.

    An error in the thread is raised by the next call of :meth:`write`, :meth:`summarize` or :meth:`close`.

    Args:
        writer: Does the work.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._executor: ThreadPoolExecutor | None = None
        self._pending: deque[Future[None]] = deque()

    @property
    def name(self) -> str:
        """The class of the writer that does the work."""
        return type(self._writer).__name__

    def prepare(self, run: Run) -> None:
        """Begins a run, once what an interrupted training has left is written."""
        wait(self._pending)
        self._writer.prepare(run)

    def write(self, entry: LogEntry) -> None:
        """Takes an entry; waits while too many are not written yet. Numbers are written before this returns."""
        write_numbers = getattr(self._writer, "write_numbers", None)
        try:
            if write_numbers is not None:
                write_numbers(entry)
        finally:
            self._submit(self._writer.write, entry)

    def summarize(self, summary: Summary) -> None:
        """Takes a summary."""
        self._submit(self._writer.summarize, summary)

    def close(self) -> None:
        """Waits until everything handed over is written."""
        try:
            self._settle(0)
        finally:
            if self._executor is not None:
                self._executor.shutdown()
                self._executor = None
            self._pending.clear()
            self._writer.close()

    def _submit(self, action: Callable[[Any], None], argument: Any) -> None:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="keras_gradcam")
        self._pending.append(self._executor.submit(_run, action, argument))
        self._settle(_WAITING)

    def _settle(self, waiting: int) -> None:
        """Raises the error of work that is done, and waits until at most ``waiting`` pieces are left."""
        while self._pending and (len(self._pending) > waiting or self._pending[0].done()):
            self._pending.popleft().result()


def _run(action: Callable[[Any], None], argument: Any) -> None:
    """Runs an action; what would end a program (``sys.exit``) ends this action alone, as any other error."""
    try:
        action(argument)
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
