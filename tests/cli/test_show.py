"""``show``: a contact sheet of rows that a question, a column or a list chooses."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_models import check_refusal, network, run, saved
from PIL import Image

from keras_gradcam.datasets import open_results


@pytest.fixture(scope="module")
def rows(five_pictures, tmp_path_factory):
    """Rows of five pictures."""
    out = tmp_path_factory.mktemp("rows")
    words = ["explain", five_pictures / "model.keras", five_pictures / "pictures", "--format", "parquet", "--out", out]
    assert run(*words, "--quiet") == 0
    return out


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def size(path="sheet.png"):
    with Image.open(path) as image:
        return image.size


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.usefixtures("here")
def test_a_question(rows, capsys):
    assert run("show", rows) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == open_results(rows).find("unsure").ids
    assert lines[-1] == "5 of 5 pictures. See sheet.png"
    whole = size()
    assert run("show", rows, "--query", "widest-focus", "--limit", "2", "--out", "two.png") == 0
    assert size("two.png")[0] * size("two.png")[1] < whole[0] * whole[1]


@pytest.mark.usefixtures("here")
def test_a_column(rows, capsys):
    assert run("show", rows, "--sort", "score", "--descending", "--limit", "3") == 0
    assert capsys.readouterr().out.splitlines()[:-1] == open_results(rows).find("highest score", 3).ids


def test_a_list(rows, here, capsys, monkeypatch):
    chosen = open_results(rows).ids[2:0:-1]
    (here / "chosen.txt").write_text("\n".join(chosen) + "\n\n")
    assert run("show", rows, "--ids", "chosen.txt") == 0
    assert capsys.readouterr().out.splitlines()[:-1] == chosen
    monkeypatch.setattr("sys.stdin", io.StringIO(f'"{chosen[0]}"\n'))
    assert run("show", rows, "--ids", "-") == 0
    assert capsys.readouterr().out.splitlines()[:-1] == chosen[:1]


def test_values_are_shown_by_their_score(five_pictures, here, capsys):
    saved(network(classes=1, activation="linear"), here / "value.keras")
    words = ["explain", "value.keras", five_pictures / "pictures", "--format", "parquet", "--out", "rows", "--quiet"]
    assert run(*words) == 0
    capsys.readouterr()
    assert run("show", "rows", "--limit", "2") == 0
    assert capsys.readouterr().out.splitlines()[:-1] == open_results(here / "rows").find("lowest score", 2).ids


def test_pictures_that_were_moved(five_pictures, here, capsys):
    shutil.copytree(five_pictures, here / "before")
    assert (
        run("explain", "before/model.keras", "before/pictures", "--format", "parquet", "--out", "rows", "--quiet") == 0
    )
    assert run("show", "rows", "--out", "before.png") == 0
    shutil.move(here / "before", here / "after")
    check_refusal(capsys, ["show", "rows"], "must give the picture of every row.*Candidates: .*--pictures")
    assert run("show", "rows", "--pictures", "after", "--out", "after.png") == 0
    np.testing.assert_array_equal(pixels("before.png"), pixels("after.png"))
    check_refusal(capsys, ["show", "rows", "--pictures", "rows"], "not in 'rows'")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "must be a folder that explain_dataset wrote to"),
        (["ROWS", "--query", "best"], "--query must name a question. Received: 'best'"),
        (["ROWS", "--query", "lowest-mass-inside"], "'mass_inside'"),
        (["ROWS", "--sort", "nothing"], "--sort must name a column of the results"),
        (["ROWS", "--ids", "none.txt"], "No such file or directory: 'none.txt'"),
        (["ROWS", "--out", "sheet.jpg"], "--out must be a .png file"),
        (["ROWS", "--limit", "0"], "must be a whole number >= 1"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_cannot_be_shown(rows, capsys, words, message):
    check_refusal(capsys, ["show", *(str(rows) if word == "ROWS" else word for word in words)], message)
    assert not Path("sheet.png").exists()
