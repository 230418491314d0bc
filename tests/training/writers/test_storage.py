"""Folders of this machine and of elsewhere."""

from __future__ import annotations

import os
import sys
import time

import pytest

from keras_gradcam.errors import ArgumentError
from keras_gradcam.training.writers.storage import FsspecStorage, LocalStorage, storage_of


def check_files(storage, folder, read):
    """The life of an event file in a storage; ``read`` is another process that looks at it."""
    storage.make_folder(folder)
    storage.make_folder(folder)
    path = storage.join(folder, "events")
    file = storage.create(path)
    file.write(b"one ")
    file.write(b"two ")
    file.flush()
    assert read(path) == b"one two "
    file.write(b"three")
    file.flush()
    assert read(path) == b"one two three"
    file.close()
    assert read(path) == b"one two three"
    storage.remove(path)
    with pytest.raises(OSError, match="events"):
        read(path)


def read_local(path):
    with open(path, "rb") as file:
        return file.read()


def test_a_local_folder(tmp_path):
    assert isinstance(storage_of("logs/run1"), LocalStorage)
    check_files(LocalStorage(), str(tmp_path / "a" / "b"), read_local)


def test_no_file_is_overwritten(tmp_path):
    path = str(tmp_path / "events")
    LocalStorage().create(path).write(b"here")
    with pytest.raises(FileExistsError):
        LocalStorage().create(path)
    assert read_local(path) == b"here"


def test_what_was_written_is_there_without_a_flush(tmp_path):
    """For whoever kills the process right after."""
    file = LocalStorage().create(str(tmp_path / "events"))
    file.write(b"kept")
    assert read_local(tmp_path / "events") == b"kept"
    del file  # quietly: an interrupted training does not close its files


def test_a_disk_that_takes_a_part_gets_the_rest(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:3]))
    LocalStorage().create(str(tmp_path / "events")).write(b"in pieces")
    assert read_local(tmp_path / "events") == b"in pieces"


def test_a_url_that_fsspec_opens():
    fsspec = pytest.importorskip("fsspec")
    storage = storage_of("memory://logs/run1")
    assert isinstance(storage, FsspecStorage)
    memory = fsspec.filesystem("memory")
    check_files(storage, "memory://logs/run1", memory.cat_file)


def test_an_object_store_that_cannot_append_gets_the_whole_file(monkeypatch):
    pytest.importorskip("fsspec")
    from fsspec.implementations.memory import MemoryFileSystem

    opened = MemoryFileSystem._open

    def without_append(self, path, mode="rb", **options):
        if mode == "ab":
            raise NotImplementedError("append")
        return opened(self, path, mode, **options)

    monkeypatch.setattr(MemoryFileSystem, "_open", without_append)
    check_files(storage_of("memory://logs/run2"), "memory://logs/run2", MemoryFileSystem().cat_file)


def test_tensorflow_comes_first_where_it_knows_the_scheme():
    from keras_gradcam.engine.tensorflow.remote_files import TensorFlowStorage

    assert isinstance(storage_of("ram://logs"), TensorFlowStorage)


@pytest.mark.parametrize("missing", ["fsspec", "scheme"])
def test_a_url_that_nothing_opens_is_refused_with_the_way_out(monkeypatch, missing):
    if missing == "fsspec":
        monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ArgumentError, match=r"`log_dir` must be .*'nowhere://logs.*pip install fsspec"):
        storage_of("nowhere://logs")


def test_without_tensorflow_fsspec_is_asked(monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.setitem(sys.modules, "keras_gradcam.engine.tensorflow.remote_files", None)
    assert isinstance(storage_of("memory://logs"), FsspecStorage)


def test_a_file_is_never_older_than_what_was_written_before(tmp_path):
    """The kernel's clock, which files are dated by, lags some milliseconds behind that of a process."""
    storage = storage_of(str(tmp_path))
    for number in range(50):
        path = tmp_path / str(number)
        before = time.time()
        path.write_bytes(b"1")
        assert storage.modified(str(path)) >= before
