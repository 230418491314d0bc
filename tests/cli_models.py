"""Small networks in files, and pictures of every kind, for tests of the command line."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import keras
import numpy as np
from keras import layers as L  # noqa: N812
from models import randomised
from PIL import Image

from keras_gradcam.cli import main

NAMES = ["cat", "wild cat", "dog"]
#: Not square, so that swapped axes show.
SIZE = (16, 12)
#: Options of `explain` for tests of everything but maps and drawings.
FAST = ("--method", "gradcam", "--format", "npz")


def network(channels: int = 3, classes: int = 3, size=SIZE, activation: str = "softmax", seed: int = 0):
    """Rescaling, two convolutions, mean, classes."""
    return randomised(
        keras.Sequential(
            [
                keras.Input((*size, channels)),
                L.Rescaling(1 / 127.5, offset=-1, name="rescaling"),
                L.Conv2D(6, 3, activation="relu", name="first"),
                L.Conv2D(5, 3, strides=2, activation="relu", name="last"),
                L.GlobalAveragePooling2D(name="mean"),
                L.Dense(classes, activation=activation, name="dense"),
            ]
        ),
        seed,
    )


def saved(model, path) -> str:
    model.save(path)
    return str(path)


def picture(number: int = 0, size=(30, 40), channels: int = 3) -> np.ndarray:
    """A smooth coloured picture, uint8 (H, W, C)."""
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (4, 5, channels), dtype=np.uint8)
    planes = [
        Image.fromarray(small[..., plane]).resize(size[::-1], Image.Resampling.BICUBIC) for plane in range(channels)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def png(path, number: int = 0, size=(30, 40)) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(number, size)).save(path)
    return str(path)


def jpeg_bytes(number: int = 0, size=(30, 40), **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(number, size)).save(buffer, "jpeg", **options)
    return buffer.getvalue()


def taken(path, size=SIZE, mode: str = "RGB") -> np.ndarray:
    """A picture as the command line is said to give it to a model: (1, H, W, C) float32 from 0 to 255."""
    image = Image.open(path).convert(mode).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32).reshape(1, *size, -1)


def run(*words) -> int:
    return main([str(word) for word in words])


def manifest(folder) -> dict:
    return json.loads((folder / "manifest.json").read_bytes())


def contents(folder) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def error_line(capsys) -> str:
    """The only line on stderr apart from warnings."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning:" not in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("keras-gradcam: error: ")
    assert "Traceback" not in lines[0]
    return lines[0].removeprefix("keras-gradcam: error: ")


def check_refusal(capsys, words, message) -> None:
    """Wrong words get one line that says what is wrong, and nothing is written to the current folder."""
    before = _files()
    capsys.readouterr()
    assert run(*words) == 2
    line = error_line(capsys)
    assert re.search(message, line), line
    assert _files() == before


def _files() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path.cwd().rglob("*")}
