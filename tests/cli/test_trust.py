"""`keras-gradcam trust`: the same table as in Python."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from cli_models import error_line, png, run, saved, taken

from keras_gradcam.metrics import trust_report


@pytest.mark.parametrize(
    ("words", "options", "numbers"),
    [
        ((), {}, range(5)),
        (("--class", "1", "--method", "layercam", "--layer", "first"),
         {"target": 1, "method": "layercam", "layer": "first"}, range(5)),
        (("--limit", "3"), {}, (0, 2, 4)),
    ],
)  # fmt: skip
def test_the_table_is_that_of_python(model, five_pictures, capsys, words, options, numbers):
    assert run("trust", five_pictures / "model.keras", five_pictures / "pictures", *words) == 0
    images = np.concatenate([taken(five_pictures / "pictures" / f"p{number}.png") for number in numbers])
    report = trust_report(model, images, **options)
    assert capsys.readouterr().out == str(report)


def test_a_value_has_a_table_too(tmp_path, capsys):
    keras.utils.set_random_seed(0)
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)]
    value = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, activation="relu"), *head])
    value.compile("sgd", "mse")
    png(tmp_path / "p.png", 0)
    assert run("trust", saved(value, tmp_path / "m.keras"), tmp_path / "p.png", "--preprocess", "none") == 0
    assert capsys.readouterr().out.startswith("gradcam of conv2d")


def test_broken_pictures_are_left_out(five_pictures, tmp_path, capsys):
    (tmp_path / "x.png").write_bytes(b"x")
    assert run("trust", five_pictures / "model.keras", tmp_path / "x.png", five_pictures / "pictures") == 1
    captured = capsys.readouterr()
    assert "5 pictures" in captured.out
    assert "x.png: " in captured.err
    assert run("trust", five_pictures / "model.keras", tmp_path / "x.png") == 2
    assert "none of the pictures could be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "gradcam,layercam"), "--method must name one method"),
        (("--class", "top3"), "--class must be predicted, a number or a name. Received: top3"),
        (("--layer", "nowhere"), "--layer must"),
        (("--limit", "0"), "must be a whole number >= 1"),
    ],
)
def test_what_does_not_fit_is_refused(five_pictures, capsys, words, message):
    assert run("trust", five_pictures / "model.keras", five_pictures / "pictures", *words) == 2
    assert message in error_line(capsys)
