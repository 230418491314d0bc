"""`keras-gradcam layers`: every layer with a map, and the one that is explained."""

from __future__ import annotations

import keras
from cli_models import (
    run,
    saved,
)
from keras import layers as L  # noqa: N812

from keras_gradcam import list_layers


def test_layers(model, folder, capsys):
    assert run("layers", folder / "model.keras") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["path", "class", "output", "shape", "call"]
    expected = [f"{one.path} {one.layer_type}" for one in list_layers(model)]
    assert [" ".join(row.replace("*", "").split()[:2]) for row in rows[:-2]] == expected
    assert [row.split()[1] for row in rows[:-2] if row.startswith("*")] == ["last"]
    assert "6 x 4 x 5" in rows[2]
    assert rows[-1] == "* is explained unless --layer names another"


def test_layers_of_models_that_cannot_be_explained_here(tmp_path, capsys):
    one, other = keras.Input((8, 8, 3), name="one"), keras.Input((None, None, 4), name="other")
    shared = L.Conv2D(2, 3, padding="same", name="shared")
    maps = [shared(L.Conv2D(3, 1, name=f"conv_{x.name}")(x)) for x in (one, other)]
    means = [L.GlobalAveragePooling2D()(x) for x in maps]
    model = keras.Model([one, other], [L.Dense(2)(means[0]), L.Dense(3)(L.Concatenate()(means))])
    assert run("layers", saved(model, tmp_path / "m.keras")) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[-1] for row in rows if "shared" in row] == ["0", "1"]
    assert sum(row.startswith("*") for row in rows) == 2  # the row and the note
    assert run("layers", saved(keras.Sequential([keras.Input((7,)), L.Dense(2)]), tmp_path / "flat.keras")) == 2
    assert "no layer with spatial extent" in capsys.readouterr().err
