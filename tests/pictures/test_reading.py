"""Picture files: which are read, and read ahead."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import pytest
from cli_models import jpeg_bytes

from keras_gradcam.errors import PictureError
from keras_gradcam.pictures.reading import one_ahead, read_file, slices


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    for name, message in (
        ("pipe.jpg", "is no regular file"),
        ("loop.jpg", "Too many levels"),
        ("nowhere.jpg", "No such file"),
        ("missing.jpg", "No such file"),
        (".", "is no regular file"),
    ):
        with pytest.raises(PictureError, match=message):
            read_file(str(tmp_path / name))


def test_a_file_that_must_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "secret.jpg").write_bytes(jpeg_bytes())

    def refused(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(PictureError, match="cannot be read: Permission denied"):
        read_file(str(tmp_path / "secret.jpg"))


def test_permissions():
    """As a user who is not root: root may read and write everything."""
    if os.name != "posix":
        pytest.skip("POSIX permissions")
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from keras_gradcam.pictures.reading import read_file\n"
        "from keras_gradcam.files import check_writable\n"
        "if os.getuid() == 0:\n    os.setgid(65534)\n    os.setuid(65534)\n"
        "for action in (lambda: read_file(sys.argv[1]), lambda: check_writable(Path(sys.argv[2])),\n"
        "               lambda: check_writable(Path(sys.argv[2]) / 'new')):\n"
        "    try:\n        print('no error', action())\n"
        "    except Exception as error:\n        print(type(error).__name__, error)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        secret, closed = Path(folder) / "secret.png", Path(folder) / "closed"
        secret.write_bytes(jpeg_bytes())
        secret.chmod(0)
        closed.mkdir(mode=0o555)
        done = subprocess.run(
            [sys.executable, "-c", script, str(secret), str(closed)], capture_output=True, text=True, timeout=60
        )
    lines = done.stdout.splitlines()
    assert lines[0] == "PictureError cannot be read: Permission denied", done
    assert lines[1].startswith("PermissionError")
    assert lines[2].startswith("PermissionError")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(3 << 30)
    tracemalloc.start()
    with pytest.raises(PictureError, match=r"has 3072 MB, more than 256\. Candidates: `max_file_size`"):
        read_file(str(tmp_path / "sparse.png"))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    (tmp_path / "small.png").write_bytes(b"12345")
    assert read_file(str(tmp_path / "small.png"), largest=5) == b"12345"
    with pytest.raises(PictureError, match="more than"):
        read_file(str(tmp_path / "small.png"), largest=4)


def test_only_a_few_batches_are_read_ahead():
    read = []

    def reading(number):
        read.append(number)
        return number

    for number in one_ahead(reading, range(20)):
        time.sleep(0.001)
        assert max(read) <= number + 2
    assert read == list(range(20))


def test_reading_ahead_ends_with_the_reader():
    ahead = one_ahead(lambda number: number, range(1000))
    next(ahead)
    ahead.close()


def test_an_error_while_reading_arrives():
    def reading(number):
        if number == 3:
            raise OSError(5, "Input/output error")
        return number

    with pytest.raises(OSError, match="Input/output"):
        list(one_ahead(reading, range(9)))


def test_slices():
    assert slices(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert slices(0, 2) == []
