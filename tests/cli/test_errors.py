"""Errors of the package in words of the command line, and exit codes."""

from __future__ import annotations

import re

import pytest
from cli_models import (
    check_refusal,
    run,
)

from keras_gradcam import Explainer
from keras_gradcam.cli.errors import FAILED, INTERRUPTED, CommandError, describe
from keras_gradcam.errors import ArgumentError

REWORDED = ArgumentError(
    "layer", "be one of those whose outputs are maps", "'lsat', which is `none` of them", ["'last'", "'first'"]
)


def test_fields_are_rendered_whatever_the_message_of_the_package_says():
    assert describe(REWORDED) == (
        "--layer must be one of those whose outputs are maps. Received: 'lsat', which is `none` of them. "
        "Candidates: 'last', 'first'."
    )


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (REWORDED, "--layer must be one of those whose outputs are maps. Received: 'lsat'"),
        (
            ArgumentError("output", "be chosen", "Class()", ["Output('a', Class())"], values=["a", 1]),
            "--output must be chosen. Received: none. Candidates: --output a, --output 1.",
        ),
        (
            ArgumentError("target", "go with what is predicted", "Class() for an embedding", "Similarity(...)"),
            "MODEL must have classes. Received: an embedding. Candidates: keras-gradcam rank for an embedding",
        ),
        (ArgumentError("methods", "be others", "'x'"), "--method must be others. Received: 'x'."),
        (ArgumentError("batch_size", "be smaller", "16"), "--batch-size must be smaller. Received: 16."),
        (ArgumentError("model", "be differentiable", "integers"), "the model must be differentiable."),
        (ArgumentError("something", "be else", "x"), "`something` must be else. Received: x."),
    ],
)
def test_an_error_of_the_package_may_be_reworded(workplace, capsys, monkeypatch, failure, expected):
    """The command knows what failed by the fields, not by the words."""

    def refuse(self, images, target=None):
        raise failure

    monkeypatch.setattr(Explainer, "__call__", refuse)
    check_refusal(capsys, ["explain", "model.keras", "pictures"], "^" + re.escape(expected))


def test_plain_values_stand_for_candidates_in_python():
    candidates = ["Output('a', Class())", "Output('b c', Class())"]
    error = ArgumentError("output", "name one", "Class()", candidates, values=["a", "b c"])
    assert str(error).endswith("Candidates: Output('a', Class()), Output('b c', Class()).")
    assert describe(error) == "--output must name one. Received: Class(). Candidates: a, 'b c'."


def test_other_errors():
    assert describe(ValueError("`layer` and\n`images` do not `fit`")) == "--layer and the pictures do not `fit`"
    assert describe(OSError(28, "No space left on device", "x.png")) == "No space left on device: 'x.png'"
    assert describe(OSError(28, "No space left on device")) == "No space left on device"
    assert describe(OSError("just words")) == "just words"


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        (MemoryError(), FAILED, "error: out of memory. Candidates: a smaller --batch-size."),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted"),
        (RuntimeError("a\nb"), FAILED, "error: RuntimeError: a b Candidates: --debug shows where."),
        (CommandError("no such thing."), FAILED, "error: no such thing."),
    ],
)
def test_exit_codes(tmp_path, capsys, monkeypatch, failure, code, line):
    def fail(options):
        raise failure

    monkeypatch.setattr("keras_gradcam.cli.report.run", fail)
    assert run("report", tmp_path) == code
    assert capsys.readouterr().err == f"keras-gradcam: {line}\n"


def test_debug_shows_the_traceback(workplace, capsys):
    assert run("explain", "model.keras", "pictures", "--layer", "gone", "--debug") == 2
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.splitlines()[-1].startswith("keras-gradcam: error: --layer must name")
