"""Names that every file system takes, JSON in parts, and where results go."""

from __future__ import annotations

import json

import pytest

from keras_gradcam.cli.errors import CommandError
from keras_gradcam.cli.files import as_json, check_out, json_parts, safe_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat", "cat"),
        ("Katze äöü 猫 ☃", "Katze äöü 猫 ☃"),
        ("a/b\\c:d", "a_b_c_d"),
        ("-rf", "_-rf"),
        ("..", "_"),
        (".hidden", "hidden"),
        ("line\nbreak", "line_break"),
        ("nul", "_nul"),
        ("\udcff\udcfe", "__"),
        ("trailing. ", "trailing"),
    ],
)
def test_safe_names(text, expected):
    assert safe_name(text) == expected


def test_long_names_fit_the_file_system():
    for letter in ("x", "猫"):
        assert 100 < len((safe_name(letter * 300) + ".top10.integrated_gradients.png.unfinished").encode()) < 255


def test_json_of_empty_lists():
    assert json.loads(b"".join(json_parts({}, {"a": []}))) == {"a": []}
    assert json.loads(b"".join(json_parts({"x": 1}, {"a": [], "b": [b"1"]}))) == {"x": 1, "a": [], "b": [1]}


def test_names_that_are_no_text_are_json():
    assert json.loads(as_json({"path": "\udcff.png"})) == {"path": "\udcff.png"}


def test_a_file_is_no_folder_of_results(tmp_path):
    (tmp_path / "file").touch()
    for folder in ("file", "file/below"):
        with pytest.raises(CommandError, match=r"^--out cannot be written to: Not a folder: '.*file'\.$"):
            check_out(tmp_path / folder)
    with pytest.raises(CommandError, match=r"^--out cannot be written to: Not a folder: 'typed'\.$"):
        check_out(tmp_path / "file", "typed")
    check_out(tmp_path / "new" / "newer")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
