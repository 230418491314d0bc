"""`keras-gradcam filters` and `top`: the same drawings as in Python."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_models import (
    jpeg_bytes,
    run,
    taken,
)
from PIL import Image

from keras_gradcam.filters.kernels import filter_kernels
from keras_gradcam.filters.top_activations import top_activations


def test_filters(model, five_pictures, tmp_path, capsys):
    assert run("filters", five_pictures / "model.keras", "--out", tmp_path / "f.png") == 0
    drawn = np.asarray(Image.open(tmp_path / "f.png"))
    np.testing.assert_array_equal(drawn, filter_kernels(model).draw())
    assert capsys.readouterr().out.startswith("6 filters of first. See ")
    words = "--layer", "last", "--sort", "none", "--common", "--out", tmp_path / "g.png"
    assert run("filters", five_pictures / "model.keras", *words) == 0
    drawn = np.asarray(Image.open(tmp_path / "g.png"))
    np.testing.assert_array_equal(drawn, filter_kernels(model, "last", None).draw("common"))


def test_top(model, five_pictures, tmp_path, capsys):
    words = "--layer", "first", "--filters", "1,4", "--top", "2", "--batch-size", "2", "--out", tmp_path / "t.png"
    assert run("top", five_pictures / "model.keras", five_pictures / "pictures", *words) == 0
    images = np.concatenate([taken(five_pictures / "pictures" / f"p{number}.png") for number in range(5)])
    found = top_activations(model, images, "first", [1, 4], 2, batch_size=2)
    drawn = np.asarray(Image.open(tmp_path / "t.png"))
    np.testing.assert_array_equal(drawn, found.draw(lambda crop: crop.astype(np.uint8)))
    written = json.loads((tmp_path / "t.json").read_bytes())
    assert written["layer"] == "first"
    assert [(one["filter"], one["picture"], one["activation"]) for one in written["activations"]] == [
        (which, one.index, one.value) for which, row in zip((1, 4), found.activations, strict=True) for one in row
    ]
    assert all(Path(one["path"]).name == f"p{one['picture']}.png" for one in written["activations"])


def test_top_leaves_broken_pictures_out(five_pictures, tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"broken")
    (tmp_path / "b.jpg").write_bytes(jpeg_bytes())
    words = "--out", tmp_path / "t.png"
    assert run("top", five_pictures / "model.keras", tmp_path, *words) == 1
    written = json.loads((tmp_path / "t.json").read_bytes())
    # Of all five filters that the layer has.
    assert [Path(one["path"]).name for one in written["activations"]] == ["b.jpg"] * 5
    assert [Path(one["path"]).name for one in written["failures"]] == ["a.jpg"]
    assert run("top", five_pictures / "model.keras", tmp_path / "a.jpg", *words) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "keras-gradcam: error: none of the pictures could be read."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["filters", "M", "--layer", "mean"], "--layer must name one Conv2D or DepthwiseConv2D layer"),
        (["filters", "M", "--out", "f.jpg"], "--out must be a .png file"),
        (["filters", "M", "--out", "nowhere/f.png"], "a file in a folder that is there"),
        (["top", "M", "P", "--filters", "a"], "numbers with commas between"),
        (["top", "M", "P", "--filters", "99"], "--filters must be channels of the layer. .* Candidates: 0 to 4"),
        (["top", "M", "P", "--top", "0"], "must be a whole number >= 1"),
        (["top", "M", "P", "--layer", "gone"], "--layer must name a layer"),
    ],
)
def test_wrong_words_for_filters(five_pictures, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    names = {"M": five_pictures / "model.keras", "P": five_pictures / "pictures"}
    assert run(*(names.get(word, word) for word in words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert list(tmp_path.iterdir()) == []
