"""`keras-gradcam tensorboard`: TensorBoard keeps every epoch."""

from __future__ import annotations

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


def test_a_folder_that_is_not_there_yet(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "execv", lambda *_: None)
    monkeypatch.setattr(subprocess, "call", lambda words: 7)
    assert run("tensorboard", tmp_path / "later") == 7
    assert "there is no folder" in capsys.readouterr().err
