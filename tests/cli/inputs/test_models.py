"""Models from files and from keras.applications, and files that hold none."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from cli_models import (
    SIZE,
    network,
    saved,
)
from keras import layers as L  # noqa: N812

from keras_gradcam.cli.errors import CommandError
from keras_gradcam.cli.inputs.models import load


@keras.saving.register_keras_serializable("somebody")
class Own(keras.layers.Layer):
    """A layer that the command line cannot know."""


def _lambda(path: Path, name: str) -> Path:
    layers = [keras.Input((*SIZE, 3)), L.Lambda(lambda x: x * 2), L.Conv2D(2, 3), L.GlobalAveragePooling2D()]
    return Path(saved(keras.Sequential(layers), path / name))


def _own_layer(path: Path) -> Path:
    layers = [keras.Input((*SIZE, 3)), Own(), L.Conv2D(2, 3), L.GlobalAveragePooling2D()]
    saved(keras.Sequential(layers), path / "m.keras")
    # The very same file, of a layer that nobody has registered.
    with zipfile.ZipFile(path / "m.keras") as old, zipfile.ZipFile(path / "other.keras", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"Own", b"Odd").replace(b"test_cli_inputs", b"no_such_module"))
    return path / "other.keras"


def _bytes(path: Path, name: str, content: bytes) -> Path:
    (path / name).write_bytes(content)
    return path / name


def _torn(path: Path, name: str) -> Path:
    content = Path(saved(network(), path / name)).read_bytes()
    return _bytes(path, f"torn{name}", content[: len(content) * 2 // 3])


def _weights(path: Path) -> Path:
    network().save_weights(path / "m.weights.h5")
    return path / "m.weights.h5"


def _renamed_weights(path: Path) -> Path:
    return _weights(path).rename(path / "m.h5")


def _saved_model(path: Path) -> Path:
    (path / "exported" / "variables").mkdir(parents=True)
    (path / "exported" / "saved_model.pb").touch()
    return path / "exported"


MODELS = {
    "pickled code": (lambda path: _lambda(path, "m.keras"), "pickled Python code.*is not loaded"),
    "pickled code in h5": (lambda path: _lambda(path, "m.h5"), "pickled Python code.*is not loaded"),
    "a layer of somebody's own": (_own_layer, "is made of 'Odd', which Keras does not know"),
    "no zip": (lambda path: _bytes(path, "m.keras", b"no model at all"), "is no .keras file"),
    "empty": (lambda path: _bytes(path, "m.keras", b""), "is no .keras file"),
    "another zip": (
        lambda path: Path(shutil.make_archive(str(path / "m"), "zip", path.parent, ".")).rename(path / "m.keras"),
        "cannot be loaded",
    ),
    "no hdf5": (lambda path: _bytes(path, "m.h5", b"no model at all"), "is no HDF5 file"),
    "torn": (lambda path: _torn(path, "m.keras"), "was not written to its end"),
    "torn h5": (lambda path: _torn(path, "m.h5"), "was not written to its end|cannot be loaded"),
    "weights alone": (_weights, "weights alone"),
    "weights alone, renamed": (_renamed_weights, "weights alone"),
    "saved model": (_saved_model, "a folder .* Candidates: load it with the Keras that saved it"),
    "another file": (lambda path: _bytes(path, "m.onnx", b"x"), "must be a .keras or .h5 file"),
}


@pytest.mark.parametrize("name", MODELS)
def test_files_that_hold_no_model(tmp_path, name):
    make, message = MODELS[name]
    (tmp_path / "other").mkdir()
    model = make(tmp_path / "other")
    with pytest.raises(CommandError, match=message) as error:
        load(str(model))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone.keras", "no such model: 'gone.keras'"),
        ("app:MobilNetV2", "Candidates: .*app:MobileNetV2"),
        ("app:MobileNetV2?alpha=2", "app:NAME.weights=none"),
    ],
)
def test_models_that_do_not_exist(source, message):
    with pytest.raises(CommandError, match=message):
        load(source)


def test_a_failed_download_is_one_line(monkeypatch):
    def offline(**_options):
        raise Exception("URL fetch failure on https://storage.googleapis.com/...:\n None")

    monkeypatch.setattr(keras.applications, "MobileNetV2", offline)
    with pytest.raises(
        CommandError, match=r"^the weights of MobileNetV2 could not be downloaded: URL fetch fail"
    ) as error:
        load("app:MobileNetV2")
    assert "\n" not in str(error.value)


def test_a_model_is_known_by_its_content(model, folder, tmp_path):
    loaded = load(str(folder / "model.keras"))
    digest = hashlib.sha256((folder / "model.keras").read_bytes()).hexdigest()
    assert loaded.identity() == {"source": str(folder / "model.keras"), "sha256": digest}
    assert (loaded.preprocessing, loaded.is_imagenet, dict(loaded.imports)) == (None, False, {})
    for own, expected in zip(loaded.keras_model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(own, expected)
