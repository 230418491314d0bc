"""`keras-gradcam tensorboard`: TensorBoard keeps every epoch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys

import pytest
from cli_models import (
    run,
)

from keras_gradcam.cli import tensorboard


def test_tensorboard_keeps_every_epoch():
    words = tensorboard.command("logs", ["--port", "0"])
    assert words[1:] == [
        "-m",
        "tensorboard.main",
        "--logdir",
        "logs",
        "--samples_per_plugin",
        "images=1000",
        "--port",
        "0",
    ]


@pytest.mark.parametrize("own", [["--samples_per_plugin", "images=5"], ["--samples_per_plugin=images=5"]])
def test_ones_own_number_of_samples_stays(own):
    assert tensorboard.command("logs", own)[3:] == ["--logdir", "logs", *own]


def test_tensorboard_takes_our_place(tmp_path, monkeypatch):
    if os.name != "posix":
        pytest.skip("POSIX alone can do so")

    class Replaced(BaseException):
        pass

    def replaced(program, words):
        raise Replaced(program, words)

    monkeypatch.setattr(os, "execv", replaced)
    with pytest.raises(Replaced) as now:
        run("tensorboard", tmp_path, "--port", "6007", "--debug")
    assert now.value.args == (sys.executable, tensorboard.command(str(tmp_path), ["--port", "6007"]))


def test_a_folder_that_is_not_there_is_refused(tmp_path, capsys):
    assert run("tensorboard", tmp_path / "later") == 2
    assert "LOGDIR must be a folder of event files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("release", "has_module", "code"), [("2.20.0", False, 2), ("2.20.0", True, 7), ("2.21.0", False, 7)]
)
def test_a_tensorboard_that_cannot_start_says_what_to_install(tmp_path, monkeypatch, capsys, release, has_module, code):
    monkeypatch.setattr(os, "execv", lambda *_: None)
    monkeypatch.setattr(subprocess, "call", lambda words: 7)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: release)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if has_module else None)
    assert run("tensorboard", tmp_path) == code
    assert ("pip install 'setuptools<81'" in capsys.readouterr().err) == (code == 2)
