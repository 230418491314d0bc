"""Errors about arguments say what, keep it apart in fields, and survive a process boundary."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

from keras_gradcam.errors import (
    ArgumentError,
    check_choice,
    check_flag,
    check_list,
    check_number,
    check_numbers,
    check_path,
    check_whole_number,
    described,
    in_one_line,
    printable,
)

FIELDS = ("name", "requirement", "received", "candidates", "values")
CASES = {
    "no candidates": (
        ArgumentError("images", "be pictures", "a cat"),
        "`images` must be pictures. Received: a cat.",
    ),
    "one candidate": (
        ArgumentError("images", "be pictures", "a cat", "pictures, one or more"),
        "`images` must be pictures. Received: a cat. Candidates: pictures, one or more.",
    ),
    "several candidates": (
        ArgumentError("layer", "exist", "'c'", ["a", "b"]),
        "`layer` must exist. Received: 'c'. Candidates: a, b.",
    ),
    "plain values": (
        ArgumentError("target", "say which output", "Class()", ["Output('a')", "Output('b')"], values=["a", "b"]),
        "`target` must say which output. Received: Class(). Candidates: Output('a'), Output('b').",
    ),
}


def fields(error):
    return {name: getattr(error, name) for name in FIELDS}


def test_fields():
    error = ArgumentError("target", "say which output", "Class()", ["Output('a')", "Output('b')"], ["a", "b"])
    assert fields(error) == {
        "name": "target",
        "requirement": "say which output",
        "received": "Class()",
        "candidates": ("Output('a')", "Output('b')"),
        "values": ("a", "b"),
    }


def test_one_text_is_one_candidate():
    assert ArgumentError("a", "b", "c", "one, and only").candidates == ("one, and only",)
    assert ArgumentError("a", "b", "c").candidates == ()


@pytest.mark.parametrize("case", CASES)
def test_message(case):
    error, message = CASES[case]
    assert str(error) == message
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("copied", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("case", CASES)
def test_copies_keep_the_fields(case, copied):
    error, message = CASES[case]
    twin = copied(error)
    assert type(twin) is ArgumentError
    assert fields(twin) == fields(error)
    assert str(twin) == message


@pytest.mark.parametrize("number", [1, 7, np.int64(3), np.uint8(1)])
def test_whole_numbers_are_taken(number):
    check_whole_number("steps", number, 1)


@pytest.mark.parametrize("number", [0, -1, True, 1.0, np.float32(2), "2", None, np.array([2, 3])], ids=repr)
def test_what_is_no_whole_number_is_refused(number):
    with pytest.raises(ArgumentError, match=r"`steps` must be a whole number >= 1\. Received: ") as caught:
        check_whole_number("steps", number, 1)
    assert caught.value.received == repr(number)


@pytest.mark.parametrize(
    ("check", "good", "wrong"),
    [
        (lambda value: check_number("x", value, "be positive", lambda x: x > 0), (1, 0.5, np.float32(2)),
         (0, -1, np.nan, True, "1", None, [1], np.ones(2))),
        (lambda value: check_choice("x", value, ("a", None)), ("a", None), ("b", 0, np.array("a"), ["a"], np.ones(2))),
        (lambda value: check_flag("x", value), (True, False), (0, 1, None, "True", np.ones(2))),
        (lambda value: check_path("x", value), ("a", Path("a")), (None, 5, b"a", ["a"])),
        (lambda value: check_list("x", value, "be a list"), ([], (1,), np.ones(2)), ("ab", {}, 5, None, np.array(1))),
        (lambda value: check_numbers("x", value), (1, [1, 2], np.ones(2, bool)),
         ("a", [[1], [1, 2]], None, {}, object())),
    ],
    ids=["number", "choice", "flag", "path", "list", "numbers"],
)  # fmt: skip
def test_checks_take_what_fits_and_refuse_the_rest(check, good, wrong):
    for value in good:
        check(value)
    for value in wrong:
        with pytest.raises(ArgumentError, match=r"`x` must .*\. Received: "):
            check(value)


def test_no_message_steers_a_terminal():
    error = ArgumentError("layer", "name a layer", repr("a"), ["conv\x1b]0;owned\x07", "\u202econv"])
    assert str(error).endswith(r"Candidates: conv\x1b]0;owned\x07, \u202econv.")
    assert printable("two\nlines äöü") == "two\nlines äöü"


def test_what_cannot_be_shown_is_still_described():
    class Odd:
        def __repr__(self):
            raise RuntimeError

    assert described(Odd()) == "Odd"
    assert described(np.zeros((2, 3))) == "ndarray of shape (2, 3)"
    assert len(described("x" * 1000)) < 220


def test_long_messages_are_cut():
    assert in_one_line("x" * 1000) == "x" * 600 + "…"
