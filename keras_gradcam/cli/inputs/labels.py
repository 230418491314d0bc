"""Names of classes, from files as people have them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...drawing.class_names import class_name
from ...errors import in_one_line
from ...files import check_file
from ..errors import CommandError
from ..files import LARGEST_TEXT


@dataclass(frozen=True)
class Labels:
    """Names of classes.

    Attributes:
        names: Class number to name.
        partial: Whether some classes may have no name, since each name comes with its number.
        source: The file they were read from.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    partial: bool = True
    source: str = ""

    def name(self, number: int) -> str:
        """Returns the name of a class."""
        return class_name(number, self.names)

    def check(self, classes: int) -> None:
        """Raises CommandError unless the names fit a model with this number of classes."""
        if self.names and (max(self.names) >= classes or (not self.partial and len(self.names) != classes)):
            raise CommandError(
                f"--labels must name the model's {classes} classes, 0 to {classes - 1}. "
                f"Received: {len(self.names)} names, 0 to {max(self.names)}, in {self.source!r}."
            )

    def find(self, text: str, classes: int, option: str = "--class") -> int:
        """Finds the class that a number, a name, or a part of a name stands for.

        Args:
            text: What was typed.
            classes: The number of classes.
            option: The option it was typed for.

        Raises:
            CommandError: If there is no such class, or several.

        Example:
            >>> labels = Labels({0: "cat", 1: "wild cat", 2: "dog"})
            >>> [labels.find(text, 3) for text in ("2", "Cat", "wild", "do")]
            [2, 0, 1, 2]
        """
        if text.isdecimal():
            if int(text) >= classes:
                raise CommandError(
                    f"{option} must be one of the model's classes. Received: {text}. Candidates: 0 to {classes - 1}."
                )
            return int(text)
        if not self.names:
            raise CommandError(
                f"{option} {text!r} is a name, and the classes have none. Candidates: a number, or --labels FILE."
            )
        wanted = _plain(text)
        plain = {number: _plain(name) for number, name in self.names.items()}
        for matches in (
            [number for number, name in plain.items() if name == wanted],
            [number for number, name in plain.items() if name.startswith(wanted)],
            [number for number, name in plain.items() if wanted in name],
        ):
            if len(matches) == 1:
                return matches[0]
            if matches:
                raise CommandError(f"{option} {text!r} fits several classes. Candidates: {self._listed(matches)}.")
        near = difflib.get_close_matches(wanted, plain.values(), 5, 0.5)
        similar = [number for number, name in plain.items() if name in near]
        raise CommandError(
            f"{option} {text!r} is no class of the model. Candidates: {self._listed(similar or list(plain))}."
        )

    def _listed(self, numbers: list[int]) -> str:
        shown = ", ".join(f"{number} {self.names[number]!r}" for number in numbers[:6])
        return shown + (f" and {len(numbers) - 6} more" if len(numbers) > 6 else "")


def read_labels(source: str) -> Labels:
    """Reads the names of classes.

    Args:
        source: A file: text with one name on each line, or JSON: a list, {name: number}, {number: name}, or Keras'
            {"0": ["n01440764", "tench"]}. Or "imagenet".

    Raises:
        CommandError: If there are no names in it.
    """
    if source == "imagenet":
        return imagenet_labels()
    try:
        check_file(source, LARGEST_TEXT)
        text = Path(source).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"--labels cannot be read: {error.strerror}: {source!r}.") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"--labels must be text in UTF-8. Received: {source!r}, which is not.") from error
    if text.lstrip().startswith(("[", "{")):
        try:
            data = json.loads(text)
            return Labels(_from_json(data), isinstance(data, dict), source)
        except (ValueError, RecursionError) as error:
            raise CommandError(
                f"--labels cannot be read: {source!r} looks like JSON, but: {in_one_line(error)}."
            ) from error
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if not any(lines):
        raise CommandError(f"--labels must hold names of classes. Received: {source!r}, which is empty.")
    if "" in lines:
        raise CommandError(
            f"--labels must have a name on every line. Received: {source!r}, line {lines.index('') + 1} of which is "
            "empty. Candidates: JSON {number: name} to name some classes only."
        )
    return Labels(dict(enumerate(lines)), False, source)


def imagenet_labels() -> Labels:
    """Returns the names of ImageNet's 1000 classes, which Keras downloads once.

    Raises:
        CommandError: If they cannot be downloaded.
    """
    import keras
    import numpy as np

    try:
        decoded = keras.applications.imagenet_utils.decode_predictions(np.eye(1000, dtype=np.float32), top=1)
    except Exception as error:  # a download fails in many ways
        raise CommandError(
            f"the names of ImageNet's classes could not be downloaded: {in_one_line(error)}. "
            "Candidates: --labels FILE with your own copy."
        ) from error
    return Labels({number: str(best[0][1]) for number, best in enumerate(decoded)}, False, "imagenet")


def _from_json(data: Any) -> dict[int, str]:
    pairs = enumerate(data) if isinstance(data, list) else data.items()
    names: dict[int, str] = {}
    for key, value in pairs:
        if isinstance(value, int) and not isinstance(value, bool):
            key, value = value, key
        if isinstance(value, list) and len(value) == 2:
            value = value[1]
        # int() raises ValueError for what is no number.
        number = int(key)
        if number < 0 or number in names or not isinstance(value, str) or not value.strip():
            raise ValueError(f"{json.dumps(key)}: {json.dumps(value)} names no class, or one that has a name")
        names[number] = value.strip()
    if not names:
        raise ValueError("it is empty")
    return names


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ").strip()
