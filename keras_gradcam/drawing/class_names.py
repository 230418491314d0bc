"""The names of classes and of identities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Union

from ..errors import ArgumentError, check_list, described
from .canvas import printable

#: Class names as users have them: in the order of the classes, by number, or the numbers by name.
ClassNames = Union[Sequence[str], Mapping[int, str], None]

_REQUIREMENT = "be a list of names or a dict {number: name}"

# Longer names are described in captions.
_LONGEST = 28


def names_by_number(names: ClassNames) -> dict[int, str]:
    """Converts class names, a list or a dict, to a dict from number to name.

    Raises:
        ArgumentError: If they are neither a list nor a dict.

    Example:
        >>> names_by_number(["cat", "dog"]), names_by_number({"dog": 1})
        ({0: 'cat', 1: 'dog'}, {1: 'dog'})
    """
    if names is None:
        return {}
    if not isinstance(names, Mapping):
        names = check_list("class_names", names, _REQUIREMENT)
    items: list[tuple[Any, Any]] = list(names.items()) if isinstance(names, Mapping) else list(enumerate(names))
    if items and all(isinstance(name, str) and not isinstance(number, str) for name, number in items):
        items = [(number, name) for name, number in items]  # {name: number}, as Keras' `class_indices` are
    try:
        return {int(number): printable(str(name)).strip() for number, name in items}
    except (TypeError, ValueError):
        raise ArgumentError("class_names", _REQUIREMENT, described(dict(items))) from None


def class_name(number: float, names: Mapping[int, str], kind: str = "class") -> str:
    """Returns the name of a class, or of an identity; its number where it has no name.

    Args:
        number: The class, a whole number.
        names: The names by number.
        kind: What the numbers count: "class" or "identity".

    Example:
        >>> class_name(3, {3: "cat"}), class_name(4, {3: "cat"}), class_name(7, {}, "identity")
        ('cat', 'class 4', 'identity 7')
    """
    return names.get(int(number), f"{kind} {int(number)}")


def short_name(name: str) -> str:
    """Returns a name for a caption, cut in the middle if it is long.

    Example:
        >>> short_name("tabby"), short_name("Staffordshire bullterrier, Staffordshire bull terrier")
        ('tabby', 'Staffordshire … bull terrier')
    """
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}…{name[1 - _LONGEST // 2 :]}"
