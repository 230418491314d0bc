"""Which pictures are meant, and what their results are called."""

from __future__ import annotations

import os

import pytest

from keras_gradcam.cli.errors import CommandError
from keras_gradcam.cli.inputs.paths import find_pictures, result_names


@pytest.fixture
def tree(tmp_path):
    names = ["b.jpg", "a.PNG", "notes.txt", "._a.PNG", "sub/c.webp", "sub/deep/d.tif", "other/e.jpeg", "out/map.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def found(tree, *words, **options):
    return [os.path.relpath(path, tree) for path in find_pictures([str(word) for word in words], **options)]


def test_folders_are_searched_through_in_a_fixed_order(tree):
    everything = ["a.PNG", "b.jpg", "other/e.jpeg", "out/map.png", "sub/c.webp", "sub/deep/d.tif"]
    assert found(tree, tree) == everything
    assert found(tree, tree, without=tree / "out") == [name for name in everything if name != "out/map.png"]


def test_patterns(tree):
    assert found(tree, tree / "*.jpg") == ["b.jpg"]
    assert found(tree, tree / "**" / "*.tif") == ["sub/deep/d.tif"]
    assert found(tree, tree / "[ab].*") == ["a.PNG", "b.jpg"]
    assert found(tree, tree / "s*") == ["sub/c.webp", "sub/deep/d.tif"]


def test_a_name_that_looks_like_a_pattern_is_a_name(tree):
    (tree / "[ab].jpg").touch()
    assert found(tree, tree / "[ab].jpg") == ["[ab].jpg"]


def test_a_named_file_is_taken_whatever_it_is_called(tree):
    assert found(tree, tree / "notes.txt") == ["notes.txt"]


def test_each_picture_once(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert found(tree, "b.jpg", tree / "b.jpg", ".", "./sub/../b.jpg")[0] == "b.jpg"
    assert len(found(tree, "b.jpg", tree / "b.jpg", ".", "sub", "out")) == 6


def test_loops_of_links_end(tree):
    (tree / "sub" / "up").symlink_to(tree)
    (tree / "sub" / "self").symlink_to(tree / "sub")
    (tree / "linked").symlink_to(tree / "other")
    names = found(tree, tree)
    assert len(names) == len({os.path.realpath(tree / name) for name in names}) == 6


def test_links_to_folders_are_followed(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "x.png").touch()
    (tree / "data").symlink_to(elsewhere)
    assert "data/x.png" in found(tree, tree)


def test_a_folder_that_cannot_be_entered_is_mentioned(tree, monkeypatch, capsys):
    scan = os.scandir

    def refusing(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert "sub/deep/d.tif" not in found(tree, tree)
    assert "Permission denied: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("missing.jpg", "no such file or folder: '.*missing.jpg'"),
        ("*.bmp", r"no file matches '.*\*.bmp'"),
        ("nothing", r"'.*nothing' holds no pictures \(.avif, .bmp"),
        ("notes.t?t", "holds no pictures"),
        ("out", "--out must not be a folder of pictures"),
    ],
)
def test_words_that_stand_for_nothing(tree, word, message):
    (tree / "nothing").mkdir()
    with pytest.raises(CommandError, match=message):
        find_pictures([str(tree / word)], without=tree / "out")


def test_names():
    paths = ["/p/a/x.jpg", "/p/b/x.jpg", "/p/b/X.png", "/p/b/y.jpg", "/q/b/x.jpg"]
    assert result_names(paths, {}) == ["a_x", "b_x", "b_X-2", "y", "b_x-3"]


def test_names_of_before_stay():
    assert result_names(["/a/x.jpg", "/b/x.jpg"], {"/b/x.jpg": "x"}) == ["a_x", "x"]
    assert result_names(["/a/x.jpg"], {"/b/x.jpg": "x"}) == ["a_x"]
    assert result_names(["/a/x.jpg"], {"/b/x.jpg": "x", "/c/a_x.jpg": "a_x"}) == ["a_x-2"]
