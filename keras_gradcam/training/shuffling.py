"""Keeps the reading of a probe from changing the training: random states, and the order of shuffled data."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Puts the global random states of Python, NumPy and PyTorch back to what they were.

    A ``DataLoader`` or ``PyDataset`` that shuffles or augments draws from them while it is read.

    Example:
        >>> np.random.seed(0)
        >>> with random_states_kept():
        ...     drawn = np.random.rand()
        >>> bool(drawn == np.random.rand())
        True
    """
    python, numpy = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    generator = None if torch is None else torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if torch is not None:
            torch.set_rng_state(generator)


def warn_about_shuffling(data: Any) -> None:
    """Warns of a ``tf.data.Dataset`` that is shuffled anew each time it is read.

    It keeps a random state of its own, which cannot be put back.
    """
    if _is_shuffled(data):
        warnings.warn(
            "`probe` is a data set that is shuffled anew each time it is read: other pictures are explained in every "
            "run, and if it is the one that is trained on, reading it here changes the order of the training. Give the "
            "data set as it is before `.shuffle(...)`, or arrays.",
            UserWarning,
            stacklevel=4,
        )


def _is_shuffled(data: Any) -> bool:
    """Returns whether a ``tf.data.Dataset``, or one that it is made of, is shuffled at each iteration."""
    if not hasattr(data, "element_spec") or not hasattr(data, "_inputs"):
        return False
    shuffles = "Shuffle" in type(data).__name__ and getattr(data, "_reshuffle_each_iteration", True) is not False
    return shuffles or any(_is_shuffled(source) for source in data._inputs())
