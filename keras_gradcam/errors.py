"""Errors that say what an argument must be, what was received and what would work."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


# Messages are cut after this number of characters.
_LONGEST = 600


def printable(text: str) -> str:
    r"""Escapes what would steer a terminal: names of layers and classes come from files that anybody may have written.

    Line breaks are kept.

    Example:
        >>> print(printable("conv\x1b[2J"))
        conv\x1b[2J
    """
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def in_one_line(error: BaseException | str) -> str:
    r"""Returns a message without line breaks, cut where it becomes an essay.

    Example:
        >>> in_one_line("No such\n  file")
        'No such file'
    """
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


class PictureError(ValueError):
    """One picture cannot be explained; the others can."""


class ArgumentError(ValueError):
    """An argument that does not fit.

    The fields are kept apart, so that a program which calls this package can render them in its own words: the command
    line names its options.

    Args:
        name: The argument, as the caller spells it.
        requirement: What it must do or be; completes the sentence "`name` must ...".
        received: What was given instead.
        candidates: What would work: one text or several, each complete by itself.
        values: The candidates as plain values, where they are written in Python: of "Output('species', Class())" it is
            "species". A program that is not called from Python shows these.

    Example:
        >>> print(ArgumentError("layer", "name a layer of the model", repr("conv9"), ["conv1", "conv2"]))
        `layer` must name a layer of the model. Received: 'conv9'. Candidates: conv1, conv2.
    """

    def __init__(
        self,
        name: str,
        requirement: str,
        received: str,
        candidates: str | Sequence[str] = (),
        values: Sequence[Any] = (),
    ) -> None:
        self.name = name
        self.requirement = requirement
        self.received = received
        self.candidates = (candidates,) if isinstance(candidates, str) else tuple(candidates)
        self.values = tuple(values)
        super().__init__(name, requirement, received, self.candidates, self.values)

    def __str__(self) -> str:
        parts = [f"`{self.name}` must {self.requirement}", f"Received: {self.received}"]
        if self.candidates:
            parts.append(f"Candidates: {', '.join(self.candidates)}")
        return printable(". ".join(parts) + ".")


def check_whole_number(name: str, number: Any, least: int) -> None:
    """Raises ArgumentError unless ``number`` is a whole number of at least ``least``."""
    if isinstance(number, bool) or not isinstance(number, Integral) or number < least:
        raise ArgumentError(name, f"be a whole number >= {least}", repr(number))


def check_number(name: str, number: Any, requirement: str, accepts: Callable[[float], bool]) -> None:
    """Raises ArgumentError unless ``number`` is a real number that ``accepts`` takes.

    Example:
        >>> check_number("share", 2, "be above 0 and at most 1", lambda share: 0 < share <= 1)
        Traceback (most recent call last):
            ...
        keras_gradcam.errors.ArgumentError: `share` must be above 0 and at most 1. Received: 2.
    """
    if isinstance(number, bool) or not isinstance(number, Real) or not accepts(float(number)):
        raise ArgumentError(name, requirement, described(number))


def check_choice(name: str, value: Any, choices: Sequence[Any], requirement: str = "") -> None:
    """Raises ArgumentError unless ``value`` is one of the choices, which are texts or None."""
    if value not in choices if isinstance(value, str) else all(value is not choice for choice in choices):
        listed = list(map(repr if None in choices else str, choices))
        raise ArgumentError(name, requirement or f"be {' or '.join(map(repr, choices))}", described(value), listed)


def check_type(name: str, value: Any, kinds: type | tuple[type, ...], requirement: str, candidates: str = "") -> None:
    """Raises ArgumentError unless ``value`` is of one of the types."""
    if not isinstance(value, kinds):
        raise ArgumentError(name, requirement, described(value), candidates)


def check_list(name: str, value: Any, requirement: str) -> Sequence[Any]:
    """Returns a list or an array as it is; raises ArgumentError for anything else."""
    if (
        isinstance(value, (str, bytes, dict))
        or not hasattr(value, "__getitem__")
        or getattr(value, "shape", None) == ()
    ):
        raise ArgumentError(name, requirement, described(value))
    if not hasattr(value, "__len__"):
        raise ArgumentError(name, requirement, described(value))
    return value


def check_flag(name: str, value: Any) -> None:
    """Raises ArgumentError unless ``value`` is True or False."""
    check_type(name, value, bool, "be True or False")


def check_path(name: str, value: Any) -> str:
    """Returns a path as text; raises ArgumentError for anything else."""
    check_type(name, value, (str, os.PathLike), "be the path of a folder", "'logs/run1'")
    path = os.fspath(value)
    check_type(name, path, str, "be the path of a folder, as text")
    return path


def as_numpy(array: Any) -> np.ndarray:
    """Returns an array of any framework as NumPy, without a copy where that is possible; a list of them, too.

    Raises:
        ValueError: If a list has rows of unequal length.

    Example:
        >>> as_numpy([[1, 2], [3, 4]]).shape
        (2, 2)
    """
    import numpy as np

    if hasattr(array, "detach"):  # a torch tensor that may need gradients or live on an accelerator
        array = array.detach().cpu()
        # Which NumPy does not have.
        return np.asarray(array.float() if str(getattr(array, "dtype", "")) == "torch.bfloat16" else array)
    if isinstance(array, (list, tuple)) and any(hasattr(part, "detach") for part in array):
        return np.asarray([as_numpy(part) for part in array])
    return np.asarray(array)


def check_numbers(
    name: str, value: Any, requirement: str = "be an array of real numbers", candidates: str = ""
) -> np.ndarray:
    """Returns an array of numbers as float64; raises ArgumentError for anything else."""
    import numpy as np

    try:
        array = as_numpy(value)
        if array.dtype.kind in "fiub":
            return array.astype(np.float64)
        if array.dtype.name == "bfloat16":
            return array.astype(np.float32).astype(np.float64)
    except (TypeError, ValueError):  # of rows of unequal length
        pass
    raise ArgumentError(name, requirement, described(value), candidates or ())


def described(value: Any) -> str:
    """Describes a value in a few words, whatever it is."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"{type(value).__name__} of shape {shape}"
    try:
        text = repr(value)
    except Exception:  # of somebody else's class
        text = type(value).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
