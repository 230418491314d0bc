"""Errors about arguments say what, keep it apart in fields, and survive a process boundary."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from keras_gradcam.errors import ArgumentError, check_whole_number

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
