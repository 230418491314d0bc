"""TensorFlow's own log lines. Imports no TensorFlow: its log level is read when it is first imported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_SILENT = "3"


@contextlib.contextmanager
def quiet_log() -> Iterator[None]:
    """Silences TensorFlow's log for as long as the context lasts, unless the user has set ``TF_CPP_MIN_LOG_LEVEL``."""
    if _LOG_LEVEL in os.environ:
        yield
        return
    os.environ[_LOG_LEVEL] = _SILENT
    try:
        yield
    finally:
        os.environ.pop(_LOG_LEVEL, None)


def is_quiet() -> bool:
    """Returns whether the log is silent, by :func:`quiet_log` or by the user's own choice."""
    return os.environ.get(_LOG_LEVEL) == _SILENT
