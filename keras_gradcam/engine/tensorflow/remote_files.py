"""Files of object stores and clusters that TensorFlow can open: ``gs://``, ``hdfs://`` and what its plug-ins add."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

Result = TypeVar("Result")


class TensorFlowStorage:
    """Opens files by URL; errors of TensorFlow become ``OSError``."""

    @staticmethod
    def opens(scheme: str) -> bool:
        """Returns whether TensorFlow knows the scheme of a URL, such as "gs"."""
        return scheme in tf.io.gfile.get_registered_schemes()

    def join(self, folder: str, name: str) -> str:
        return f"{folder.rstrip('/')}/{name}"

    def make_folder(self, folder: str, new: bool = False) -> None:
        if new and _translated(tf.io.gfile.exists, folder):
            raise FileExistsError(folder)
        _translated(tf.io.gfile.makedirs, folder)

    def names(self, folder: str) -> list[str]:
        if not _translated(tf.io.gfile.isdir, folder):
            return []
        return [name.rstrip("/") for name in _translated(tf.io.gfile.listdir, folder)]

    def create(self, path: str) -> _File:
        return _File(path)

    def remove(self, path: str) -> None:
        _translated(tf.io.gfile.remove, path)

    def modified(self, path: str) -> float:
        # Many storages tell whole seconds.
        return float(_translated(tf.io.gfile.stat, path).mtime_nsec) / 1e9 + 1


class _File:
    """A file opened for writing."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = tf.io.gfile.GFile(path, "wb")
        self.write(b"")  # opens it

    def write(self, content: bytes) -> None:
        _translated(self._file.write, content)

    def flush(self) -> None:
        _translated(self._file.flush)

    def exists(self) -> bool:
        return bool(_translated(tf.io.gfile.exists, self._path))

    def close(self) -> None:
        _translated(self._file.close)


def _translated(action: Callable[..., Result], *arguments: Any) -> Result:
    """Runs an operation on files and raises what goes wrong as ``OSError``, as Python's own files do."""
    try:
        return action(*arguments)
    except tf.errors.OpError as error:
        raise OSError(f"{type(error).__name__}: {error.message}") from error
