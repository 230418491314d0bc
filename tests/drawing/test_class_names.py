"""Class names as users have them, by number."""

from __future__ import annotations

import numpy as np
import pytest

from keras_gradcam.drawing.class_names import class_name, names_by_number, short_name

NAMES = {0: "cat", 1: "dog", 2: "cow"}


@pytest.mark.parametrize(
    "names",
    [[*NAMES.values()], np.array([*NAMES.values()]), {2: "cow", 1: "dog", 0: "cat"}, {"dog": 1, "cat": 0, "cow": 2}],
    ids=["list", "array", "dict", "class_indices"],
)  # fmt: skip
def test_names_are_a_list_or_a_dict_either_way_round(names):
    assert names_by_number(names) == NAMES


def test_there_may_be_none():
    assert names_by_number(None) == names_by_number([]) == {}


def test_names_are_on_one_line():
    assert names_by_number({np.int64(3): " grey\nwolf\u202e "}) == {3: "grey wolf"}


@pytest.mark.parametrize("names", ["cat", 3, {"cat", "dog"}])
def test_anything_else_is_refused(names):
    with pytest.raises(ValueError, match="`class_names` must be a list of names or a dict"):
        names_by_number(names)


def test_a_class_without_a_name_has_its_number():
    assert [class_name(number, NAMES) for number in (1, 1.0, 7)] == ["dog", "dog", "class 7"]
    assert class_name(7, {}, "identity") == "identity 7"


def test_a_long_name_is_cut_in_the_middle():
    assert short_name("x" * 28) == "x" * 28
    assert short_name("a" * 20 + "b" * 20) == "a" * 14 + "…" + "b" * 13
