"""Where event files are kept: a local folder, or one of an object store or a cluster, named by a URL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from ...errors import ArgumentError
from .records import BinaryFile

# By how many seconds the time of a file may lag behind the clock: the kernel's own is that coarse, and most remote
# storages tell whole seconds.
_TICK, _REMOTE_TICK = 0.01, 1.0


class Storage(Protocol):
    """The few operations on files that writing event files takes."""

    def join(self, folder: str, name: str) -> str:
        """Returns the path of a file in a folder."""

    def make_folder(self, folder: str, new: bool = False) -> None:
        """Makes a folder and those above it, where they are missing.

        Raises:
            FileExistsError: If a new one is asked for and it is there already.
        """

    def names(self, folder: str) -> list[str]:
        """Returns the names of what is in a folder; none where there is no such folder."""

    def create(self, path: str) -> BinaryFile:
        """Opens a new file for writing; what is flushed can be read by other processes."""

    def remove(self, path: str) -> None:
        """Removes a file."""

    def modified(self, path: str) -> float:
        """Returns a time when a file is already written, in seconds since 1970, as early as the storage can tell.

        It is 0 where that is not known.
        """


def storage_of(folder: str) -> Storage:
    """Returns the storage that a folder lies in.

    A path without "://" is local and needs nothing but Python. A URL is opened by TensorFlow, if it is installed and
    knows the scheme, and otherwise by fsspec.

    Raises:
        ArgumentError: If neither can open the URL.
    """
    scheme, separator, _ = folder.partition("://")
    if not separator:
        return LocalStorage()
    try:
        from ...engine.tensorflow.remote_files import TensorFlowStorage
    except ImportError:
        pass
    else:
        if TensorFlowStorage.opens(scheme):
            return TensorFlowStorage()
    try:
        return FsspecStorage(folder)
    except (ImportError, ValueError) as error:
        # fsspec is missing, or the package that it needs for this scheme, or it knows no such scheme.
        raise ArgumentError(
            "log_dir",
            "be a local folder, or a URL that TensorFlow or fsspec can open",
            f"{folder!r} ({error})",
            ["a local folder", f"pip install fsspec and the package that it needs for {scheme}:// (s3fs, gcsfs, ...)"],
        ) from error


class LocalStorage:
    """Files of this machine."""

    def join(self, folder: str, name: str) -> str:
        return os.path.join(folder, name)

    def make_folder(self, folder: str, new: bool = False) -> None:
        Path(folder).mkdir(parents=True, exist_ok=not new)

    def names(self, folder: str) -> list[str]:
        return os.listdir(folder) if os.path.isdir(folder) else []

    def create(self, path: str) -> BinaryFile:
        return _LocalFile(path)

    def remove(self, path: str) -> None:
        os.remove(path)

    def modified(self, path: str) -> float:
        return os.path.getmtime(path) + _TICK


class _LocalFile:
    """A new file that holds whatever was written, even if the process ends right after.

    It is not buffered, and closed without a word when a training was interrupted and nobody closes it.
    """

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._path = path
        self._descriptor: int | None = os.open(path, flags, 0o666)

    def write(self, content: bytes) -> None:
        if self._descriptor is None:
            raise ValueError("The file is closed.")
        rest = memoryview(content)
        while rest:  # a disk that is nearly full takes a part
            rest = rest[os.write(self._descriptor, rest) :]

    def flush(self) -> None:
        pass

    def exists(self) -> bool:
        try:
            return self._descriptor is not None and os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:
            self.close()


class FsspecStorage:
    """Files of any system that fsspec has an implementation for.

    Args:
        folder: The URL of the folder.

    Raises:
        ImportError: If fsspec, or the package that it needs for the scheme, is not installed.
        ValueError: If fsspec does not know the scheme.
    """

    def __init__(self, folder: str) -> None:
        import fsspec

        self._files, _ = fsspec.core.url_to_fs(folder)

    def join(self, folder: str, name: str) -> str:
        return f"{folder.rstrip('/')}/{name}"

    def make_folder(self, folder: str, new: bool = False) -> None:
        if new and self._files.exists(folder):
            raise FileExistsError(folder)
        self._files.makedirs(folder, exist_ok=True)

    def names(self, folder: str) -> list[str]:
        if not self._files.isdir(folder):
            return []
        return [path.rstrip("/").rpartition("/")[2] for path in self._files.ls(folder, detail=False)]

    def create(self, path: str) -> BinaryFile:
        return _AppendedFile(self._files, path)

    def remove(self, path: str) -> None:
        self._files.rm_file(path)

    def modified(self, path: str) -> float:
        try:
            return float(self._files.modified(path).timestamp()) + _REMOTE_TICK
        except (AttributeError, NotImplementedError):
            return 0.0


class _AppendedFile:
    """A file of an fsspec file system that can be read after each flush.

    A file that fsspec holds open may appear in an object store only when it is closed, so each flush opens it anew.
    """

    def __init__(self, files: Any, path: str) -> None:
        self._files, self._path = files, path
        self._pending = bytearray()
        self._appends = True
        files.pipe_file(path, b"")

    def write(self, content: bytes) -> None:
        self._pending += content

    def flush(self) -> None:
        if not self._pending:
            return
        content = bytes(self._pending)
        if self._appends:
            try:
                with self._files.open(self._path, "ab") as file:
                    file.write(content)
            except (NotImplementedError, ValueError):
                self._appends = False
        if not self._appends:  # an object store whose objects are written as a whole
            self._files.pipe_file(self._path, self._files.cat_file(self._path) + content)
        self._pending.clear()

    def exists(self) -> bool:
        self._files.invalidate_cache(self._path)
        return bool(self._files.exists(self._path))

    def close(self) -> None:
        self.flush()
