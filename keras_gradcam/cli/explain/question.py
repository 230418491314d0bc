"""What is asked of a model: which classes of each picture are explained, and how."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...attribution.explainer import Explainer
from ...attribution.explanation import Explanation
from ...attribution.targets.base import Target
from ...attribution.targets.classes import Class, TopClass
from ...attribution.targets.outputs import Output
from ..errors import CommandError
from ..inputs.labels import Labels


@dataclass(frozen=True)
class Question:
    """What is to be explained in every picture.

    Attributes:
        of_class: A class, or None for the most likely ones of each picture.
        places: How many of these.
        contrast: The class that the explained one is contrasted with, or None.
        counterfactual: Whether what speaks against the class is wanted.
        output: Name or position of one of several outputs, or None.
    """

    of_class: int | None = None
    places: int = 1
    contrast: int | None = None
    counterfactual: bool = False
    output: str | int | None = None

    @property
    def written(self) -> str | int:
        """The class as it is written on the command line."""
        if self.of_class is not None:
            return self.of_class
        return "predicted" if self.places == 1 else f"top{self.places}"

    @property
    def target(self) -> Target:
        """What is explained, of the likeliest class where several are asked for."""
        return self._of_output(self._target(0))

    def answers(self, explainer: Explainer, images: np.ndarray) -> list[Explanation]:
        """An explanation of all pictures for each place, the most likely class first."""
        if self.places == 1:
            return [explainer(images, target=self.target)]
        if self.contrast is None and not self.counterfactual:
            return list(explainer.top_classes(images, self.places))
        targets = [self._of_output(self._target(place)) for place in range(self.places)]
        return [explainer(images, target=target) for target in targets]

    def words(self, explained: str, other: str) -> str:
        """What is explained, for a caption, from the names of the explained class and of its contrast."""
        if self.contrast is not None:
            return f"{explained} rather than {other}"
        return f"against {explained}" if self.counterfactual else explained

    def _target(self, place: int) -> Target:
        chosen = Class(self.of_class) if self.of_class is not None else TopClass(place) if self.places > 1 else Class()
        if self.contrast is not None:
            return chosen - Class(self.contrast)
        return -chosen if self.counterfactual else chosen

    def _of_output(self, target: Target) -> Target:
        return target if self.output is None else Output(self.output, target)


def read_question(
    of_class: str, contrast: str | None, counterfactual: bool, output: str | None, labels: Labels, classes: int
) -> Question:
    """What the options mean for a model with so many classes.

    Raises:
        CommandError: If they mean nothing for it.
    """
    if contrast is not None and counterfactual:
        raise CommandError("--contrast and --counterfactual exclude each other.")
    question = Question(
        contrast=None if contrast is None else labels.find(contrast, classes, "--contrast"),
        counterfactual=counterfactual,
        output=which_output(output),
    )
    top = re.fullmatch(r"top(\d+)", of_class)
    if of_class == "predicted":
        return question
    if top:
        if not 1 <= int(top[1]) <= classes:
            raise CommandError(f"--class must be top1 to top{classes} for this model. Received: {of_class}.")
        return replace(question, places=int(top[1]))
    question = replace(question, of_class=labels.find(of_class, classes))
    if question.of_class == question.contrast:
        raise CommandError(f"--contrast must be another class than --class. Received: {contrast} for both.")
    return question


def which_output(text: str | None) -> str | int | None:
    """An output as targets name it: by position where it is a number."""
    return int(text) if text is not None and text.isdecimal() else text


def explained_classes(question: Question, shares: np.ndarray, answers: Sequence[Explanation]) -> np.ndarray:
    """The explained class of every picture at every place, (N, places)."""
    if question.of_class is not None:
        return np.full((len(shares), 1), question.of_class)
    if all(answer.classes is not None for answer in answers):
        return np.stack([np.asarray(answer.classes) for answer in answers], axis=1)
    # A difference of classes has no class of its own; its first one is the likeliest, or the next.
    return np.argsort(-shares, axis=1, kind="stable")[:, : question.places]
