"""Options that commands share mean the same everywhere."""

from __future__ import annotations

import argparse

import pytest

from keras_gradcam.cli.arguments import parse
from keras_gradcam.cli.options import non_negative, positive


@pytest.mark.parametrize(
    "command",
    [
        ["explain", "m.keras", "a.jpg"],
        ["top", "m.keras", "a.jpg"],
        ["trust", "m.keras", "a.jpg"],
        ["rank", "m.keras", "--query", "q", "--gallery", "g"],
    ],
)
def test_all_commands_that_read_pictures_prepare_them_alike(command):
    options = parse(
        [
            *command,
            "--preprocess",
            "none",
            "--range",
            "raw",
            "--size",
            "32",
            "--max-file-size",
            "3",
            "--batch-size",
            "5",
        ]
    )
    assert (options.preprocess, options.range, options.size) == ("none", "raw", "32")
    assert (options.max_file_size, options.batch_size, options.quiet) == (3, 5, False)


@pytest.mark.parametrize(
    ("read", "good", "bad"), [(positive, "1", "0"), (non_negative, "0", "-1"), (positive, "20", "x")]
)
def test_numbers(read, good, bad):
    assert read(good) == int(good)
    with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number >="):
        read(bad)
