"""What goes to stdout and to stderr: results alone, warnings as lines, progress."""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
import warnings

import keras
from cli_models import (
    SIZE,
    png,
    run,
    saved,
)
from keras import layers as L  # noqa: N812

from keras_gradcam.cli import console


def test_results_alone_are_printed_to_stdout(capsys):
    with console.results_alone():
        print("a layer of the user's own prints")
        console.print_result("a result")
    captured = capsys.readouterr()
    assert captured.out == "a result\n"
    assert captured.err == "a layer of the user's own prints\n"
    assert console._results is None


def test_letters_that_a_terminal_has_not_are_escaped(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    console.print_result("Katze ☃")
    terminal.flush()
    assert terminal.buffer.getvalue() == b"Katze \\u2603\n"


def test_a_warning_of_the_package_is_one_line_and_appears_once(capsys):
    with console.warnings_as_lines():
        for _ in range(2):
            warnings.warn_explicit("Without a `layer`\nthe map", UserWarning, "/x/keras_gradcam/y.py", 1)
        warnings.warn_explicit("of a library", UserWarning, "/x/keras/y.py", 1)
        warnings.warn_explicit("is deprecated", DeprecationWarning, "/x/keras_gradcam/y.py", 1)
    assert capsys.readouterr().err == "keras-gradcam: warning: Without a --layer the map\n"


def test_warnings_are_single_lines(tmp_path, capsys):
    layers = [keras.Input((*SIZE, 3)), L.Rescaling(1.0), L.Conv2D(3, 3), L.GlobalAveragePooling2D()]
    model = keras.Sequential(layers)
    for number in range(3):
        png(tmp_path / "p" / f"{number}.png", number)
    words = "--batch-size", "1", "--out", tmp_path / "out"
    assert run("explain", saved(model, tmp_path / "m.keras"), tmp_path / "p", *words) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("keras-gradcam: warning: The model holds no ReLU")


def test_progress_in_a_file_is_a_line_every_half_minute(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = console.Progress(100)
    progress.skip(40)
    for seconds in (10, 20, 31, 40):
        now[0] = seconds
        progress.advance(10)
    progress.clear()
    assert capsys.readouterr().err == "keras-gradcam: 70 of 100 pictures, 1.0 a second, 00:00:31 left\n"


def test_progress_on_a_terminal_is_redrawn(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((80, 24)))
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = console.Progress(4)
    now[0] = 1.0
    progress.advance(2)
    console.print_message("between")
    progress.clear()
    bar, line, rest = capsys.readouterr().err.split("\r\033[K")[1:]
    assert bar.startswith("[===")
    assert bar.endswith("] 2 of 4 pictures, 2.0 a second, 00:00:01 left")
    assert len(bar) < 80
    assert (line, rest) == ("keras-gradcam: between\n", "")


def test_silent_progress(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = console.Progress(4, shown=False)
    now[0] = 100.0
    progress.advance(2)
    progress.clear()
    assert capsys.readouterr().err == ""


def test_names_from_files_do_not_steer_the_terminal(capsys):
    console.print_result("conv\x1b[2J\n\u202econv")
    console.print_message("conv\x1b]0;owned\x07")
    captured = capsys.readouterr()
    assert captured.out == "conv\\x1b[2J\n\\u202econv\n"
    assert captured.err == "keras-gradcam: conv\\x1b]0;owned\\x07\n"
