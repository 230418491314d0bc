"""Chooses the engine for the Keras backend in use, and starts the two without what they print while they are imported.

Imports neither NumPy nor Keras before one of its functions is called: a command that only prints its help is quick.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .tensorflow.quiet_log import is_quiet, quiet_log

if TYPE_CHECKING:
    from .base import Engine

__all__ = ["current_engine", "quiet_log", "quiet_start"]


def current_engine() -> Engine:
    """Returns the engine for the Keras backend in use.

    Raises:
        NotImplementedError: If there is no engine for that backend.
    """
    import keras

    backend = keras.config.backend()
    if backend == "tensorflow":
        from .tensorflow.engine import TensorFlowEngine

        return TensorFlowEngine()
    raise NotImplementedError(
        f"The Keras backend must be one that keras_gradcam has an engine for. Received: {backend!r}. "
        "Candidates: 'tensorflow' (set KERAS_BACKEND=tensorflow before keras is imported)."
    )


def quiet_start() -> None:
    """Imports Keras and its backend, quietly where the log is silent (see :func:`quiet_log`).

    Some lines are written past Python, before the backend reads its own log level: while it is imported, what goes to
    stderr is put aside, and shown only if the import fails.
    """
    if "keras" in sys.modules or not is_quiet():
        import keras

        return
    with _stderr_aside():
        import keras  # noqa: F401

        # Without an engine for the backend, the command says so itself as soon as it needs one.
        with contextlib.suppress(NotImplementedError):
            current_engine().start()


@contextlib.contextmanager
def _stderr_aside() -> Iterator[None]:
    """Keeps away what is written to the process' stderr; shows it if the context ends with an error."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as aside:
        terminal = os.dup(2)
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(terminal, aside.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
