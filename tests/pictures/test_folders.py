"""Which pictures are meant."""

from __future__ import annotations

import os

import pytest

from keras_gradcam.errors import ArgumentError
from keras_gradcam.pictures.folders import find_pictures


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


def test_a_folder_that_cannot_be_entered_is_mentioned(tree, monkeypatch):
    scan = os.scandir

    def refusing(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.warns(UserWarning, match="Permission denied: .*deep"):
        assert "sub/deep/d.tif" not in found(tree, tree)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("missing.jpg", "`images` must be there. Received: '.*missing.jpg', no such"),
        ("*.bmp", r"'.*\*.bmp', which no file matches"),
        ("nothing", r"must hold pictures. Received: '.*nothing', which holds none \(.avif, .bmp"),
        ("notes.t?t", "holds none"),
        ("out", "`out` must not be a folder of pictures"),
    ],
)
def test_words_that_stand_for_nothing(tree, word, message):
    (tree / "nothing").mkdir()
    with pytest.raises(ArgumentError, match=message):
        find_pictures([str(tree / word)], without=tree / "out")
