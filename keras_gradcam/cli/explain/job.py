"""Everything about a run of ``explain`` that is settled before the first picture."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...attribution.explainer import Explainer
from ...attribution.methods.names import DEFAULT_METHODS, as_methods
from ...drawing.pixels import Style
from ...version import __version__
from ..console import say
from ..errors import CommandError, in_options
from ..inputs.input_spec import Intake, intake
from ..inputs.labels import Labels, imagenet_labels, read_labels
from ..inputs.models import Network, load
from .formats import FORMATS
from .question import Question, read_question, which_output


@dataclass(frozen=True, eq=False)
class Work:
    """Everything that is settled before the first picture.

    Attributes:
        network: The model.
        intake: What it takes.
        explainer: Of the model.
        question: What is asked.
        labels: Names of the classes.
        style: How maps are drawn.
        form: Of the results, a key of :data:`keras_gradcam.cli.results.FORMATS`.
        layer: Path of the explained layer, or None.
    """

    network: Network
    intake: Intake
    explainer: Explainer
    question: Question
    labels: Labels
    style: Style
    form: str
    layer: str | None

    def files(self, name: str) -> list[str]:
        """The files of a picture whose results have this name."""
        suffixes = FORMATS[self.form].suffixes(self.explainer.methods, self.question.places)
        return [name + suffix for suffix in suffixes]

    def header(self) -> dict[str, Any]:
        """What the results are made with."""
        import keras
        import tensorflow

        names = json.dumps(sorted(self.labels.names.items()), ensure_ascii=True)
        return {
            "made_with": {
                "keras_gradcam": __version__,
                "keras": keras.__version__,
                "tensorflow": tensorflow.__version__,
            },
            "model": self.network.identity(),
            "settings": {
                "class": self.question.written,
                "contrast": self.question.contrast,
                "counterfactual": self.question.counterfactual,
                "output": self.question.output,
                "layer": self.layer,
                "methods": list(self.explainer.methods),
                "preprocess": self.intake.preprocessing.name,
                "size": list(self.intake.size),
                "labels": hashlib.sha256(names.encode()).hexdigest() if self.labels.names else None,
                "format": self.form,
                "colormap": self.style.colormap,
            },
        }


def prepare(options: argparse.Namespace) -> Work:
    """Reads the options, loads the model, and finds out whether the two fit.

    Raises:
        CommandError: If they do not, or there is no such model.
        ValueError: Likewise, from the package.
    """
    methods = as_methods([name.strip() for text in options.method or () for name in text.split(",")] or DEFAULT_METHODS)
    style = Style(colormap=options.colormap)
    labels = Labels() if options.labels in (None, "imagenet") else read_labels(options.labels)
    network = load(options.model, options.imports)
    taken = intake(network, options.preprocess, options.size)
    explainer = Explainer(
        network.keras_model,
        layer=options.layer,
        target=Question(output=which_output(options.output)).target,
        methods=methods,
        batch_size=options.batch_size,
    )
    # How many classes there are is known once the model has been run; what does not fit it comes to light, too.
    classes, layer = _tried(explainer, taken.blank())
    labels = _labels(options.labels, labels, network, classes)
    question = read_question(
        options.of_class, options.contrast, options.counterfactual, options.output, labels, classes
    )
    return Work(network, taken, explainer, question, labels, style, options.format, layer)


def _tried(explainer: Explainer, blank: np.ndarray) -> tuple[int, str | None]:
    """The number of classes, and the path of the explained layer."""
    try:
        explanation = explainer(blank)
    except ValueError as error:
        if "must fit the model's output" not in str(error):
            raise
        received = in_options(error).partition("Received: Class() for ")[2].partition(" Candidates:")[0]
        raise CommandError(
            f"MODEL must have classes. Received: {received or error} "
            "Candidates: keras-gradcam rank for an embedding; keras_gradcam.explain in Python with another target."
        ) from error
    assert explanation.probabilities is not None  # its target fits models with classes alone
    return explanation.probabilities.shape[1], explanation.layer


def _labels(source: str | None, labels: Labels, network: Network, classes: int) -> Labels:
    if source == "imagenet":
        labels = imagenet_labels()
    elif source is None and network.is_imagenet:
        try:
            labels = imagenet_labels()
        except CommandError as failure:
            say(f"warning: {failure}")
    labels.check(classes)
    return labels
