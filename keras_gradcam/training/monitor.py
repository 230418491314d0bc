"""What is to be seen of the probes at one moment: maps, what the model says, and how well it tells identities apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..attribution.explainer import Explainer
from ..attribution.explanation import Explanation
from ..attribution.targets.base import Target
from ..attribution.targets.embeddings import embeddings
from ..errors import ArgumentError
from ..filters.kernels import Filters, filter_kernels
from ..filters.top_activations import top_activations
from ..reid.ranking import RankList
from ..reid.retrieval import Gallery, check_gallery, rank_gallery
from .pairs import Partners, separation
from .probe import Probe

# Places of the cumulative matching characteristic that are logged.
_PLACES = (1, 5, 10)


@dataclass(frozen=True, eq=False)
class Measurement:
    """The probes at one moment.

    Attributes:
        explanation: Of the probes.
        partner: Of their partners, where the probes are pairs.
        said: Name to (N,): the columns that do not come from the maps.
        totals: Name to number, for all probes together.
        rankings: Ranked lists with maps.
        pictures: Name to uint8 (H, W, 3): the learned filters.
        failure: What kept the gallery from being ranked, which must not cost the maps.
    """

    explanation: Explanation
    partner: Explanation | None
    said: Mapping[str, np.ndarray]
    totals: Mapping[str, float]
    rankings: tuple[RankList, ...] = ()
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
    failure: Exception | None = None


class ProbeMonitor:
    """Looks at the same probes again and again.

    Args:
        explainer: Of the model.
        probe: The pictures.
        target: What is explained, with its reference where the probes are pairs.
        partners: The other pictures of the pairs, or None.
        gallery: What to rank, or None.
        filters: Which filters to show, or None.
    """

    def __init__(
        self,
        explainer: Explainer,
        probe: Probe,
        target: Target,
        partners: Partners | None,
        gallery: Gallery | None,
        filters: Filters | None = None,
    ) -> None:
        self._explainer, self._probe, self._target, self._partners = explainer, probe, target, partners
        self._gallery, self._filters = None, filters
        self._warned = False
        self.outputs = explainer.outputs(probe.images)
        if gallery is not None:
            if gallery.query is None and probe.labels is None:
                raise ArgumentError(
                    "gallery",
                    "come with queries where the probe has no identities",
                    "neither",
                    "Gallery(..., query=(pictures, identities)), a probe (pictures, identities)",
                )
            query = gallery.query if gallery.query is not None else (probe.images, probe.labels)
            self._gallery = replace(gallery, query=query)
            check_gallery(self._gallery, explainer)
        if filters is not None:
            filter_kernels(explainer.model, filters.layer)

    def measure(self, number: int, end: bool = False) -> Measurement:
        """Explains the probes with the current weights.

        Args:
            number: How many epochs have been looked at, this one included; 0 before the first.
            end: Whether this is the last epoch.
        """
        explanation, partner, totals = self._explained()
        rankings: tuple[RankList, ...] = ()
        failure = None
        if self._gallery is not None and (end or number % self._gallery.every == 0):
            try:
                rankings, retrieval = self._ranked(self._gallery)
                totals |= retrieval
            except Exception as error:
                failure = error
        present = {name: value for name, value in totals.items() if np.isfinite(value)}
        return Measurement(
            explanation, partner, self._said(explanation), present, rankings, self._drawn_filters(number, end), failure
        )

    def _ranked(self, gallery: Gallery) -> tuple[tuple[RankList, ...], dict[str, float]]:
        ranking = rank_gallery(gallery, self._explainer, warn=not self._warned)
        self._warned = True
        found = {f"rank_{place}": float(ranking.cmc[place - 1]) for place in _PLACES if place <= len(ranking.cmc)}
        return ranking.explained, {"mean_ap": ranking.mean_ap, **found}

    def _drawn_filters(self, number: int, end: bool) -> dict[str, np.ndarray]:
        filters, model = self._filters, self._explainer.model
        drawn: dict[str, np.ndarray] = {}
        if filters is None:
            return drawn
        if end or number % filters.every == 0:
            # In the layer's own order, so that a filter stays in its place.
            drawn["filters/kernels"] = filter_kernels(model, filters.layer, sort=None).draw("common")
        if filters.images is not None and (end or number == 0):
            kernels = filter_kernels(model, filters.layer)
            chosen = np.sort(kernels.order[: filters.count])
            found = top_activations(model, filters.images, kernels.layer, chosen.tolist(), filters.top)
            drawn["filters/top"] = found.draw()
        return drawn

    def _explained(self) -> tuple[Explanation, Explanation | None, dict[str, float]]:
        if self._partners is None:
            return self._explainer(self._probe.images), None, {}
        score, pictures = self._partners.score, self._partners.pictures
        # The partners are embedded once; from the explanation of the probes come the probes' own embeddings.
        other = self._explainer.embed(pictures)
        explanation = self._explainer(self._probe.images, self._target.on_same_output(score(other)))
        one = embeddings(replace(self.outputs, predictions=explanation.predictions), self._target)
        partner = self._explainer(pictures, self._target.on_same_output(score(one)))
        return explanation, partner, dict(separation(self._partners, one, other))

    def _said(self, explanation: Explanation) -> dict[str, np.ndarray]:
        """What the model said."""
        said = {"score": explanation.scores}
        if explanation.classes is not None:
            said["explained"] = explanation.classes
        probabilities = explanation.probabilities
        if probabilities is not None:
            samples = np.arange(len(explanation))
            # A model whose outputs are not finite predicts nothing.
            broken = ~np.isfinite(probabilities).all(axis=1)
            said["predicted"] = np.where(broken, np.nan, probabilities.argmax(axis=1))
            said["confidence"] = probabilities.max(axis=1)
            if explanation.classes is not None:
                said["probability"] = probabilities[samples, explanation.classes]
        return said
