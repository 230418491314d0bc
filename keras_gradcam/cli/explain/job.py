"""A run of ``explain``, as far as it is known before the first picture: model, target, methods, files."""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...attribution.explainer import Explainer
from ...attribution.methods.names import DEFAULT_METHODS, method_names
from ...attribution.targets.classes import Class
from ...drawing.pixels import Style
from ...engine import current_engine
from ...errors import ArgumentError
from ...pictures.spec import PictureSpec
from ...version import __version__
from ..console import print_message
from ..errors import CommandError
from ..inputs.labels import Labels, imagenet_labels, read_labels
from ..inputs.models import Network, load, spec_of
from .formats import FORMATS
from .question import Question, read_output, read_question


@dataclass(frozen=True, eq=False)
class Job:
    """What is done to every picture.

    Attributes:
        network: The model.
        spec: The pictures that it takes.
        explainer: The model's explainer.
        question: What is explained.
        labels: Names of the classes.
        style: How maps are drawn.
        format: A key of :data:`keras_gradcam.cli.explain.formats.FORMATS`.
        layer: Path of the explained layer, or None without a map on the layer's grid.
    """

    network: Network
    spec: PictureSpec
    explainer: Explainer
    question: Question
    labels: Labels
    style: Style
    format: str
    layer: str | None

    def files(self, name: str) -> list[str]:
        """Returns the files of a picture whose results have this name."""
        suffixes = FORMATS[self.format].suffixes(self.explainer.methods, self.question.num_classes)
        return [name + suffix for suffix in suffixes]

    def header(self) -> dict[str, Any]:
        """Returns what the results depend on, for the manifest."""
        names = json.dumps(sorted(self.labels.names.items()), ensure_ascii=True)
        return {
            "made_with": {"keras_gradcam": __version__, **current_engine().versions()},
            "model": self.network.identity(),
            "settings": {
                "class": self.question.class_option,
                "contrast": self.question.contrast,
                "counterfactual": self.question.counterfactual,
                "output": self.question.output,
                "layer": self.layer,
                "methods": list(self.explainer.methods),
                "preprocess": self.spec.preprocessing.name,
                "range": None if self.spec.values is None else list(self.spec.values),
                "size": list(self.spec.size),
                "labels": hashlib.sha256(names.encode()).hexdigest() if self.labels.names else None,
                "format": self.format,
                "colormap": self.style.colormap,
            },
        }


def prepare(options: argparse.Namespace, default_methods: Sequence[str] = DEFAULT_METHODS) -> Job:
    """Reads the options, loads the model, and explains a black picture to find out whether they fit.

    Raises:
        CommandError: If they do not fit, or there is no such model.
        ValueError: Likewise, from the package.
    """
    methods = method_names(
        [name.strip() for text in options.method or () for name in text.split(",")] or default_methods
    )
    style = Style(colormap=options.colormap)
    labels = Labels() if options.labels in (None, "imagenet") else read_labels(options.labels)
    network = load(options.model, options.imports)
    spec = spec_of(network, options)
    explainer = Explainer(
        network.keras_model,
        layer=options.layer,
        target=Question(output=read_output(options.output)).target,
        methods=methods,
        batch_size=options.batch_size,
    )
    # The number of classes is known once the model has run, and so is whether the layer and the methods fit it.
    classes, layer = _try(explainer, spec.blank(), options.output)
    if classes:
        labels = _fit_labels(options.labels, labels, network, classes)
    elif options.labels is not None:
        raise CommandError("MODEL predicts a value, which has no classes to be named by --labels.")
    question = read_question(
        options.of_class, options.contrast, options.counterfactual, options.output, labels, classes
    )
    return Job(network, spec, explainer, question, labels, style, options.format, layer)


def _try(explainer: Explainer, blank: np.ndarray, output: str | None) -> tuple[int, str | None]:
    """Explains a black picture; returns the number of classes, 0 for a value, and the path of the explained layer."""
    try:
        explanation = explainer(blank)
    except ArgumentError as error:
        if error.name == "output":
            received = "none" if output is None else output
            options = [f"--output {shlex.quote(str(value))}" for value in error.values]
            raise ArgumentError(error.name, error.requirement, received, options or error.candidates) from error
        if error.name == "target":  # the predicted class is explained here, so that the model has none
            raise CommandError(
                f"MODEL must have classes. Received: {error.received.removeprefix(f'{Class()!r} for ')}. "
                "Candidates: keras-gradcam rank for an embedding; keras_gradcam.explain in Python with another target."
            ) from error
        raise
    return 0 if explanation.probabilities is None else explanation.probabilities.shape[1], explanation.layer


def _fit_labels(source: str | None, labels: Labels, network: Network, classes: int) -> Labels:
    """Returns the names of the model's classes; ImageNet's for a network with its weights."""
    if source == "imagenet":
        labels = imagenet_labels()
    elif source is None and network.is_imagenet:
        try:
            labels = imagenet_labels()
        except CommandError as error:
            print_message(f"warning: {error}")
    labels.check(classes)
    return labels
