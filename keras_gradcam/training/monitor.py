"""Measures the probes once an epoch: maps, predictions, pairs, rankings and filters with the current weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer
from ..attribution.explanation import Explanation
from ..attribution.placement import placement_of
from ..attribution.targets.base import Target
from ..attribution.targets.embeddings import embeddings
from ..attribution.targets.probabilities import class_count
from ..drawing.pixels import Style
from ..engine.base import Structure
from ..engine.model import layer_paths
from ..errors import ArgumentError
from ..filters.kernels import Filters, filter_kernels
from ..filters.top_activations import top_activations
from ..metrics.regions import bounds, region_mask
from ..reid.ranking import RankList
from ..reid.retrieval import Gallery, check_gallery, rank_gallery
from ..tensorboard_plugin.metadata import ExplainedInfo, ProbeInfo, RunInfo
from .pairs import Pairs, separation
from .probe import ProbeSamples, display_pictures, explained_pictures
from .writers.base import Run

# Ranks of the cumulative matching characteristic that are logged.
_RANKS = (1, 5, 10)

# A target that is written longer than this holds a class for each probe.
_LONGEST_TARGET = 80


@dataclass(frozen=True, eq=False)
class Measurement:
    """What was measured with the weights at the end of one epoch.

    Attributes:
        explanation: Of the probes.
        partner: Of their partners, where the probes are pairs.
        predictions: Name to (N,): the columns that do not come from the maps.
        totals: Name to number, for all probes together.
        rankings: Ranked lists with maps.
        pictures: Name to uint8 (H, W, 3): the learned filters.
        failure: What kept the gallery from being ranked, which must not cost the maps.
    """

    explanation: Explanation
    partner: Explanation | None
    predictions: Mapping[str, np.ndarray]
    totals: Mapping[str, float]
    rankings: tuple[RankList, ...] = ()
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
    failure: Exception | None = None

    @property
    def maps(self) -> np.ndarray | None:
        """float32 (N, h, w), the maps of the probes whose drift is measured."""
        return self.explanation.cam

    @property
    def partner_maps(self) -> np.ndarray | None:
        """float32 (N, h', w'), the same of the partners."""
        return None if self.partner is None else self.partner.cam


class ProbeMonitor:
    """Measures the same probes again and again.

    Args:
        explainer: Of the model, with the target.
        samples: The pictures.
        pairs: The pairs that they make, or None.
        gallery: What to rank, or None.
        filters: Which filters to show, or None.

    Attributes:
        outputs: Shapes and final activations of the model's outputs.

    Raises:
        ArgumentError: If one of these does not fit the model or the probes.
    """

    def __init__(
        self,
        explainer: Explainer,
        samples: ProbeSamples,
        pairs: Pairs | None = None,
        gallery: Gallery | None = None,
        filters: Filters | None = None,
    ) -> None:
        self._ranker = explainer  # takes pictures as the gallery has them
        self._explainer, images = explainer.prepared(samples.images)
        self._samples = replace(samples, images=images)
        self._pairs = None
        if pairs is not None:
            self._pairs = replace(pairs, pictures=explainer.prepared(pairs.pictures)[1])
        self._gallery, self._filters = None, filters
        self._has_warned = False
        program = self._explainer.runner.traced(images)
        self.outputs, (self._layer,), (layout,) = program.outputs, program.layers, program.layouts
        self._placement = None if layout is None else placement_of(layout).oriented()
        if gallery is not None:
            if gallery.query is None and samples.labels is None:
                raise ArgumentError(
                    "gallery",
                    "come with queries where the probe has no identities",
                    "neither",
                    ["Gallery(..., query=(pictures, identities))", "a probe (pictures, identities)"],
                )
            query = gallery.query if gallery.query is not None else (samples.images, samples.labels)
            self._gallery = replace(gallery, query=query)
            check_gallery(self._gallery, explainer)
        if filters is not None:
            filter_kernels(explainer.model, filters.layer)

    def describe(self, class_names: Mapping[int, str], style: Style, every: int) -> Run:
        """Describes the training for those who write and draw.

        Args:
            class_names: Names of classes or identities by number.
            style: Colours and scale of the maps.
            every: Epochs from one logged epoch to the next.

        Raises:
            ArgumentError: If the names do not fit the model's classes, the probes are no pictures, or a region lies
                outside of them.
        """
        samples, target = self._samples, self._explainer.target
        quantity = target.quantity_of(self.outputs)
        self._check_class_names(class_names)
        images = self._explained_pictures("probe", samples.images)
        partners = source = None
        if self._pairs is not None:
            partners, source = self._explained_pictures("target", self._pairs.pictures), self._pairs.source
        masks = self.region_masks()
        boxes = [None] * len(samples) if masks is None else [bounds(mask) for mask in masks]
        labels = [None] * len(samples) if samples.labels is None else [int(label) for label in samples.labels]
        info = RunInfo(
            input_size=(images.shape[1], images.shape[2]),
            probes=tuple(ProbeInfo(label, box) for label, box in zip(labels, boxes, strict=True)),
            explained=ExplainedInfo(
                None if self._layer is None else self._layer.path,
                _in_words(target, self._pairs, quantity[0]),
                quantity,
                self._explainer.methods,
                None if self._placement is None or self._placement.is_whole else self._placement.spans,
            ),
            label="identity" if target.is_embedding else "class",
            colormap=style.colormap,
            scale=style.scale,
            class_names=class_names,
            every=every,
            pairs=self._pairs is not None,
        )
        return Run(info, *display_pictures(images, samples.display_images, partners, source))

    def region_masks(self) -> list[np.ndarray] | None:
        """Draws the region of each probe as a mask (H, W) of the input; returns None without regions.

        Raises:
            ArgumentError: If a region is neither box nor mask.
        """
        if self._samples.regions is None:
            return None
        size = self._explained_pictures("probe", self._samples.images).shape[1:3]
        return [region_mask(region, size) for region in self._samples.regions]

    def measure(self, number: int, is_last: bool = False) -> Measurement:
        """Explains the probes with the current weights.

        Args:
            number: How many epochs have been measured, this one included; 0 before the first.
            is_last: Whether this is the last epoch.
        """
        explanation, partner, totals = self._explained()
        rankings: tuple[RankList, ...] = ()
        failure = None
        if self._gallery is not None and (is_last or number % self._gallery.every == 0):
            try:
                rankings, retrieval = self._ranked(self._gallery)
                totals |= retrieval
            except Exception as error:
                failure = error
        return Measurement(
            explanation=explanation,
            partner=partner,
            predictions=_predictions(explanation),
            totals={name: value for name, value in totals.items() if np.isfinite(value)},
            rankings=rankings,
            pictures=self._drawn_filters(number, is_last),
            failure=failure,
        )

    def _explained_pictures(self, name: str, images: Structure) -> np.ndarray:
        pictures = explained_pictures(
            name,
            images,
            self._explainer.runner.explained_input(self._samples.images),
            axes=2 if self._placement is None else len(self._placement.axes),
        )
        return pictures if self._placement is None else self._placement.channels_last(pictures)

    def _check_class_names(self, class_names: Mapping[int, str]) -> None:
        target = self._explainer.target
        selected = target.select_output(self.outputs)
        count = class_count(getattr(selected.predictions, "shape", ()))
        if not class_names or count is None or target.is_embedding:
            return
        classes = max(count, 2)
        if set(class_names) != set(range(classes)):
            raise ArgumentError(
                "class_names",
                f"name the classes 0 to {classes - 1} of the model",
                f"{len(class_names)} names",
                f"a list of {classes} names",
            )

    def _ranked(self, gallery: Gallery) -> tuple[tuple[RankList, ...], dict[str, float]]:
        ranking = rank_gallery(gallery, self._ranker, warn=not self._has_warned)
        self._has_warned = True
        cmc = {f"rank_{rank}": float(ranking.cmc[rank - 1]) for rank in _RANKS if rank <= len(ranking.cmc)}
        return ranking.explained, {"mean_ap": ranking.mean_ap, **cmc}

    def _drawn_filters(self, number: int, is_last: bool) -> dict[str, np.ndarray]:
        """Draws kernels when they are due, and at both ends the pictures that excite them most."""
        filters, model = self._filters, self._explainer.model
        drawn: dict[str, np.ndarray] = {}
        if filters is None:
            return drawn
        if is_last or number % filters.every == 0:
            # In the layer's own order, so that a filter keeps its position.
            drawn["filters/kernels"] = filter_kernels(model, filters.layer, sort=None).draw("common")
        if filters.images is not None and (is_last or number == 0):
            kernels = filter_kernels(model, filters.layer)
            chosen = np.sort(kernels.order[: filters.count])
            top = top_activations(
                model,
                filters.images,
                kernels.layer,
                chosen.tolist(),
                filters.top,
                image=filters.image,
                label=filters.label,
            )
            drawn["filters/top"] = top.draw()
        return drawn

    def _explained(self) -> tuple[Explanation, Explanation | None, dict[str, float]]:
        """Explains probes and partners, each with the embeddings of the other as its reference."""
        if self._pairs is None:
            return self._explainer(self._samples.images), None, {}
        target, score, pictures = self._explainer.target, self._pairs.score, self._pairs.pictures
        # The partners are embedded once; from the explanation of the probes come the probes' own embeddings.
        partners = self._explainer.embed(pictures)
        explanation = self._explainer(self._samples.images, target.on_same_output(score(partners)))
        probes = embeddings(replace(self.outputs, predictions=explanation.predictions), target)
        partner = self._explainer(pictures, target.on_same_output(score(probes)))
        return explanation, partner, dict(separation(self._pairs, probes, partners))


def check_explainer(explainer: Explainer, model: Any) -> None:
    """Raises ArgumentError unless an explainer's model is the model in training, within it, or made of its weights."""
    if explainer.model is model or any(layer is explainer.model for _, layer in layer_paths(model)):
        return
    trained = {id(weight) for weight in model.weights}
    weights = explainer.model.weights
    if not weights or any(id(weight) not in trained for weight in weights):
        raise ArgumentError(
            "explainer",
            "explain the model in training, a model within it, or one made of its layers",
            f"an explainer of {explainer.model.name!r}, in a training of {model.name!r}",
            ["Explainer(model)", "Explainer(keras.Model(model.input, model.get_layer('embedding').output))"],
        )


def check_alone(explainer: Any, **shortcuts: Any) -> None:
    """Raises ArgumentError if an explainer is none, or comes with options that it holds itself."""
    if explainer is None:
        return
    if not isinstance(explainer, Explainer):
        raise ArgumentError(
            "explainer", "be a keras_gradcam.Explainer", type(explainer).__name__, "Explainer(model, layer=...)"
        )
    for name, value in shortcuts.items():
        if value is not None:
            raise ArgumentError(
                name, "be given to the explainer", f"an explainer and {name}={value!r}", f"Explainer(model, {name}=...)"
            )


def _predictions(explanation: Explanation) -> dict[str, np.ndarray]:
    """Returns what the model predicts for the probes, by column."""
    columns = {"score": explanation.scores}
    if explanation.classes is not None:
        columns["explained"] = explanation.classes
    probabilities = explanation.probabilities
    if probabilities is not None:
        # A model whose outputs are not finite predicts nothing.
        broken = ~np.isfinite(probabilities).all(axis=1)
        columns["predicted"] = np.where(broken, np.nan, probabilities.argmax(axis=1))
        columns["confidence"] = probabilities.max(axis=1)
        if explanation.classes is not None:
            columns["probability"] = probabilities[np.arange(len(explanation)), explanation.classes]
    return columns


def _in_words(target: Target, pairs: Pairs | None, quantity: str) -> str:
    if pairs is not None:
        return f"{pairs.name} to the partner"
    if quantity == "value":
        return "the predicted value"
    return repr(target) if len(repr(target)) < _LONGEST_TARGET else "Class of each probe"
