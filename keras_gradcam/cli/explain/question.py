"""Which classes of each picture are explained, and what about them: ``--class`` and the options beside it."""

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
    """What is explained in every picture.

    Attributes:
        of_class: A class, or None for the most likely ones of each picture.
        num_classes: The number of most likely classes, each of which is explained.
        contrast: The class that the explained one is contrasted with, or None.
        counterfactual: Whether the evidence against the class is explained.
        output: Name or position of one of several outputs, or None.
    """

    of_class: int | None = None
    num_classes: int = 1
    contrast: int | None = None
    counterfactual: bool = False
    output: str | int | None = None

    @property
    def class_option(self) -> str | int:
        """The class as it is written after ``--class``."""
        if self.of_class is not None:
            return self.of_class
        return "predicted" if self.num_classes == 1 else f"top{self.num_classes}"

    @property
    def target(self) -> Target:
        """What is explained; that of the most likely class where there are several."""
        return self._of_output(self._target(0))

    def explain(self, explainer: Explainer, images: np.ndarray) -> list[Explanation]:
        """Explains all pictures; returns an explanation for each of the most likely classes, or one."""
        if self.num_classes == 1:
            return [explainer(images, target=self.target)]
        if self.contrast is None and not self.counterfactual:
            return list(explainer.top_classes(images, self.num_classes))
        targets = [self._of_output(self._target(rank)) for rank in range(self.num_classes)]
        return [explainer(images, target=target) for target in targets]

    def caption(self, explained: str, contrasted: str) -> str:
        """Says what is explained, given the names of the explained class and of its contrast."""
        if self.contrast is not None:
            return f"{explained} rather than {contrasted}"
        return f"against {explained}" if self.counterfactual else explained

    def _target(self, rank: int) -> Target:
        explained = self._explained_class(rank)
        if self.contrast is not None:
            return explained - Class(self.contrast)
        return -explained if self.counterfactual else explained

    def _explained_class(self, rank: int) -> Target:
        if self.of_class is not None:
            return Class(self.of_class)
        return TopClass(rank) if self.num_classes > 1 else Class()

    def _of_output(self, target: Target) -> Target:
        return target if self.output is None else Output(self.output, target)


def read_question(
    of_class: str, contrast: str | None, counterfactual: bool, output: str | None, labels: Labels, classes: int
) -> Question:
    """Reads the options for a model with this number of classes, 0 for one that predicts a value.

    Raises:
        CommandError: If there is no such class, or the options exclude each other.
    """
    if not classes and (of_class != "predicted" or contrast is not None or counterfactual):
        raise CommandError(
            "MODEL predicts a value (one unit without a sigmoid or a loss of classes), which is explained without "
            "--class, --contrast and --counterfactual."
        )
    if contrast is not None and counterfactual:
        raise CommandError("--contrast and --counterfactual exclude each other.")
    question = Question(
        contrast=None if contrast is None else labels.find(contrast, classes, "--contrast"),
        counterfactual=counterfactual,
        output=read_output(output),
    )
    top = re.fullmatch(r"top(\d+)", of_class)
    if of_class == "predicted":
        return question
    if top:
        if not 1 <= int(top[1]) <= classes:
            raise CommandError(f"--class must be top1 to top{classes} for this model. Received: {of_class}.")
        return replace(question, num_classes=int(top[1]))
    question = replace(question, of_class=labels.find(of_class, classes))
    if question.of_class == question.contrast:
        raise CommandError(f"--contrast must be another class than --class. Received: {contrast} for both.")
    return question


def read_output(text: str | None) -> str | int | None:
    """Returns an output as targets name it: by its position where the text is a number."""
    return int(text) if text is not None and text.isdecimal() else text


def explained_classes(question: Question, probabilities: np.ndarray, explanations: Sequence[Explanation]) -> np.ndarray:
    """Returns the explained classes of every picture, int (N, number of explained classes)."""
    if question.of_class is not None:
        return np.full((len(probabilities), 1), question.of_class)
    if all(explanation.classes is not None for explanation in explanations):
        return np.stack([np.asarray(explanation.classes) for explanation in explanations], axis=1)
    # The target is a difference of classes, which has no class of its own; its first one is among the most likely.
    return np.argsort(-probabilities, axis=1, kind="stable")[:, : question.num_classes]
