"""Commands and options: help that answers at once, and wrong words in one line."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from cli_models import (
    check_refusal,
    run,
)

from keras_gradcam import __version__
from keras_gradcam.cli.arguments import COMMANDS, parse

BACKEND = keras.config.backend()


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)])
def test_help_does_not_wait_for_tensorflow(words):
    code = (
        f"import sys\nfrom keras_gradcam.cli import main\ntry:\n    main({words!r})\nexcept SystemExit as end:\n"
        "    heavy = {'tensorflow', 'keras', 'numpy', 'PIL', 'matplotlib', 'tensorboard', 'scipy'} & set(sys.modules)\n"
        "    print('code', end.code, sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    *text, last = done.stdout.splitlines()
    assert last == "code 0 []", done
    if words == ["--version"]:
        assert text == [f"keras-gradcam {__version__}"]
    else:
        assert "exit codes: 0 all went well, 1 some pictures failed, 2 wrong usage or input, 130 interrupted" in text
    if len(words) == 2:
        start = text.index("examples:")
        assert text[start + 1].startswith(f"  keras-gradcam {words[0]} ")
        assert all(len(line) <= 120 for line in text)


def test_examples_of_the_help_are_understood(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            parse([command, "--help"])
        examples = re.findall(r"^  keras-gradcam (.*)$", capsys.readouterr().out, re.MULTILINE)
        assert len(examples) >= 2
        for example in examples:
            assert parse(shlex.split(example.split(" > ")[0])).command == command


def test_the_entry_point_is_declared():
    text = (Path(__file__).parents[2] / "setup.cfg").read_text()
    assert "keras-gradcam = keras_gradcam.cli:main" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: COMMAND"),
        (["explian"], "invalid choice: 'explian'"),
        (["explain", "model.keras"], "required: IMAGES"),
        (["explain", "model.keras", "pictures", "--colour", "x"], "unrecognized arguments: --colour x"),
        (["explain", "model.keras", "pictures", "--lab", "x"], "unrecognized arguments: --lab x"),
        (["explain", "model.keras", "pictures", "--batch-size", "0"], "must be a whole number >= 1, not '0'"),
        (["explain", "model.keras", "pictures", "--format", "gif"], "invalid choice: 'gif'"),
    ],
)
def test_wrong_words(workplace, capsys, words, message):
    check_refusal(capsys, words, message)


@pytest.mark.parametrize("command", ["explain", "layers", "filters", "top", "trust", "rank"])
def test_all_commands_that_take_a_model_have_its_code_and_its_backend(command, capsys):
    with pytest.raises(SystemExit):
        run(command, "--help")
    text = capsys.readouterr().out
    assert re.search(r"--import MODULE +Python code that defines", text)
    assert "--backend {tensorflow,jax,torch}" in text


def test_the_backend_that_is_in_use_can_be_asked_for(folder, capsys):
    assert run("layers", folder / "model.keras", "--backend", BACKEND) == 0
    assert "last" in capsys.readouterr().out


def test_a_backend_that_cannot_be_used_is_refused(workplace, capsys):
    other = "jax" if BACKEND == "torch" else "torch"
    check_refusal(capsys, ["layers", "model.keras", "--backend", other], "--backend must be chosen before Keras is")


@pytest.mark.parametrize("asked", [[], ["--backend", BACKEND]])
def test_a_backend_that_is_not_installed_is_named_in_one_line(folder, asked):
    words = ["layers", str(folder / "model.keras"), *asked]
    code = f"import sys\nsys.modules[{BACKEND!r}] = None\nfrom keras_gradcam.cli import main\nsys.exit(main({words!r}))"
    environment = {**os.environ, "KERAS_BACKEND": BACKEND}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"keras-gradcam: error: The Keras backend '{BACKEND}' is not installed.")
    assert (done.returncode, done.stdout) == (2, "")
