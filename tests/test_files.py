"""A file is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import pytest

from keras_gradcam.files import check_writable, remove_unfinished, replace_whole


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
    (tmp_path / ".x.png.unfinished").touch()
    (tmp_path / "x.png").touch()
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


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
