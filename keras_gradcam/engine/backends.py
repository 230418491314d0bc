"""Chooses the engine for the Keras backend in use, and starts the two without what they print while they are imported.

Imports neither NumPy nor Keras before one of its functions is called: a command that only prints its help is quick.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..errors import ArgumentError, check_choice
from .tensorflow.quiet_log import is_quiet, quiet_log

if TYPE_CHECKING:
    from .base import Engine

__all__ = ["BACKENDS", "current_engine", "quiet_log", "quiet_start", "use_backend"]

#: The Keras backends that there is an engine for. Each is the name of the package to install, too.
BACKENDS = ("tensorflow", "jax", "torch")

# The class of each engine, in the module `engine` of the backend's folder.
_ENGINES = {"tensorflow": "TensorFlowEngine", "jax": "JaxEngine", "torch": "TorchEngine"}


def use_backend(name: str) -> None:
    """Makes Keras use a backend in this process, whatever ``KERAS_BACKEND`` says; to be called before Keras is used.

    Raises:
        ArgumentError: If there is no engine for that backend, or Keras uses another one already.
        ImportError: If the backend is not installed.
    """
    check_choice("backend", name, BACKENDS)
    if "keras" in sys.modules:
        import keras

        if keras.config.backend() != name:
            raise ArgumentError(
                "backend",
                "be chosen before Keras is imported",
                f"{name!r} in a process in which Keras uses {keras.config.backend()!r}",
                f"a new process with the environment variable KERAS_BACKEND={name}",
            )
    if find_spec(name) is None:
        raise _not_installed(name)
    os.environ["KERAS_BACKEND"] = name


def current_engine() -> Engine:
    """Returns the engine for the Keras backend in use.

    Raises:
        NotImplementedError: If there is no engine for that backend.
    """
    import keras

    backend = keras.config.backend()
    if backend not in BACKENDS:
        raise NotImplementedError(
            f"The Keras backend must be one that keras_gradcam has an engine for. Received: {backend!r}. "
            f"Candidates: {', '.join(map(repr, BACKENDS))} (set KERAS_BACKEND before keras is imported)."
        )
    engine: type[Engine] = getattr(import_module(f".{backend}.engine", __package__), _ENGINES[backend])
    return engine()


def quiet_start() -> None:
    """Imports Keras and its backend, quietly where the log is silent (see :func:`quiet_log`).

    Some lines are written past Python, before the backend reads its own log level: while it is imported, what goes to
    stderr is put aside, and shown only if the import fails.

    Raises:
        ImportError: If the backend is not installed.
    """
    try:
        _start()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        # A package that the backend itself lacks is another matter.
        if missing not in BACKENDS or find_spec(missing) is not None:
            raise
    else:
        return
    raise _not_installed(missing)


def _start() -> None:
    if "keras" in sys.modules or not is_quiet():
        import keras

        return
    with _stderr_aside():
        import keras  # noqa: F401

        # Without an engine for the backend, the command says so itself as soon as it needs one.
        with contextlib.suppress(NotImplementedError):
            current_engine().start()


def _not_installed(backend: str) -> ImportError:
    """Returns the error that says which package to install."""
    others = [f"--backend {name}" for name in BACKENDS if name != backend and find_spec(name) is not None]
    return ImportError(
        f"The Keras backend {backend!r} is not installed. Candidates: "
        f"{', '.join([f'pip install {backend}', *others])}.",
        name=backend,
    )


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
