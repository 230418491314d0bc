"""A file is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from keras_gradcam.files import (
    check_writable,
    file_status,
    is_used_by_another_process,
    lock_folder,
    open_regular,
    remove_unfinished,
    replace_whole,
    unlock_folder,
)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "file"
    replace_whole(path, b"before")

    def torn():
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_whole(path, torn())
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_are_removed(tmp_path):
    (tmp_path / ".x.png.0123456789abcdef.unfinished").touch()
    (tmp_path / ".folder.0123456789abcdef.unfinished").mkdir()
    kept = {".folder.0123456789abcdef.unfinished", ".x.png.unfinished", "x.png"}
    for name in (".x.png.unfinished", "x.png"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_links_are_replaced_and_never_followed(tmp_path):
    (tmp_path / "victim").write_bytes(b"safe")
    (tmp_path / "link").symlink_to("victim")
    replace_whole(tmp_path / "link", b"new")
    assert (tmp_path / "victim").read_bytes() == b"safe"
    assert (tmp_path / "link").read_bytes() == b"new"
    (tmp_path / "other").symlink_to("victim")
    os.mkfifo(tmp_path / "pipe")
    for name in ("other", "pipe"):
        with pytest.raises(OSError, match=r"symbolic link|Not a regular file"):
            open_regular(tmp_path / name)
    with open_regular(tmp_path / "victim", "r+b") as file:
        file.write(b"SAFE")
    assert (tmp_path / "victim").read_bytes() == b"SAFE"


def test_one_process_at_a_time_holds_a_folder(tmp_path):
    handle = lock_folder(tmp_path)
    assert not is_used_by_another_process(tmp_path)
    with pytest.raises(BlockingIOError):
        lock_folder(tmp_path)
    look = "import sys; from keras_gradcam.files import is_used_by_another_process as used; print(used(sys.argv[1]))"
    said = [subprocess.run([sys.executable, "-c", look, tmp_path], capture_output=True, text=True).stdout.strip()]
    unlock_folder(handle)
    said.append(subprocess.run([sys.executable, "-c", look, tmp_path], capture_output=True, text=True).stdout.strip())
    assert said == ["True", "False"]
    unlock_folder(lock_folder(tmp_path))
    assert not is_used_by_another_process(tmp_path / "missing")


def test_a_forked_process_does_not_keep_a_folder_locked(tmp_path):
    """A worker of a data loader outlives the training that was killed."""
    program = (
        "import os, sys, time\n"
        "from keras_gradcam.files import lock_folder\n"
        "lock_folder(sys.argv[1])\n"
        "if os.fork() == 0:\n"
        "    print('child', flush=True)\n"
        "    time.sleep(60)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert parent.stdout.readline() == "child\n"
        assert is_used_by_another_process(tmp_path)
        parent.kill()
        parent.wait()
        assert not is_used_by_another_process(tmp_path)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.stdout.close()


def test_content_in_parts_and_as_a_whole(tmp_path):
    replace_whole(tmp_path / "parts", (part for part in (b"one", b"two")))
    replace_whole(tmp_path / "whole", b"onetwo")
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes() == b"onetwo"


def test_nothing_is_left_of_a_new_file_that_fails(tmp_path):
    with pytest.raises(OSError, match="missing"):
        replace_whole(tmp_path / "missing" / "file", b"")
    with pytest.raises(TypeError):
        replace_whole(tmp_path / "file", ["text"])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_can_be_written_to_stays_empty(tmp_path):
    check_writable(tmp_path)
    check_writable(tmp_path / "new" / "and" / "deep")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("below", [(), ("folder",), ("folder", "deeper")])
def test_a_file_is_no_folder(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"Not a folder: .*file"):
        check_writable((tmp_path / "file").joinpath(*below))


def test_size_and_time_tell_of_settled_files_alone(tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(b"123")
    assert file_status(path) is None, "it may be changed again within one tick of the clock"
    os.utime(path, ns=(5_000_000_000, 5_000_000_000))
    assert file_status(path) == (3, 5_000_000_000)
    assert file_status(tmp_path / "missing") is None
