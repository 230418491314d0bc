"""Pairs among the probes: which picture each probe is compared with, and how well the network tells people apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.targets.base import Target
from ..engine.base import Structure
from ..errors import ArgumentError
from ..reid.ranking import directions
from .probe import Probe


@dataclass(frozen=True, eq=False)
class Partners:
    """The other pictures of N pairs.

    Attributes:
        score: Makes the target out of what a picture is compared with.
        name: Of that target.
        pictures: What the model takes, one per probe.
        source: int (N,), which probe each partner is, or None where they are other pictures.
        positive: bool (N, N), whether probe i and partner j show one identity in two pictures.
        negative: bool (N, N), whether they show two identities.
    """

    score: Callable[[Any], Target]
    name: str
    pictures: Structure
    source: np.ndarray | None
    positive: np.ndarray
    negative: np.ndarray


def lacks_reference(target: Target) -> bool:
    """Whether a target compares pictures but does not say with which."""
    comparison = target.comparison()
    return comparison is not None and comparison[0].references[0] is None


def take_partners(target: Target, probe: Probe) -> tuple[Target, Partners | None]:
    """Finds the partners of the probes in a target that compares.

    Args:
        target: Any. A :class:`keras_gradcam.Similarity`, ``Dot`` or ``Distance`` without a reference pairs each probe
            with the next one that has its label; one with a picture for each probe pairs it with that. Without labels
            such pairs are taken to be of one identity each; with labels nothing is known of the partners' identities.
        probe: The probes; their labels are identities.

    Returns:
        The target with its reference, and the partners, or None where there are no pairs.

    Raises:
        ValueError: If a reference is missing and the labels do not give one.
    """
    import keras

    comparison = target.comparison()
    if comparison is None:
        return target, None
    compared, factor = comparison
    (reference,) = compared.references
    count, kind = len(probe), type(compared)

    def score(other: Any) -> Target:
        return kind(other) if factor == 1 else factor * kind(other)

    name = kind.__name__ if factor == 1 else f"{'-' if factor == -1 else f'{factor:g}*'}{kind.__name__}"
    if reference is None:
        labels, source = _next_of_the_same(probe.labels, repr(compared))
        pictures = keras.tree.map_structure(lambda array: array[source], probe.images)
        alike = labels[:, None] == labels[source][None]
        itself = np.arange(count)[:, None] == source[None]
        partners = Partners(score, name, pictures, source, alike & ~itself, ~alike)
        return target.on_same_output(score(pictures)), partners
    if isinstance(reference, np.ndarray) and (len(reference) < count or reference.ndim != _axes(probe.images)):
        return target, None  # one for all, or embeddings
    pictures = keras.tree.map_structure(lambda array: np.asarray(array)[:count], reference)
    # Labels are the probes' own: whether the partners show the same identities or other ones is not known.
    alike = np.eye(count, dtype=bool)
    apart = ~alike
    if probe.labels is not None:
        alike = apart = np.zeros((count, count), bool)
    return target.on_same_output(score(pictures)), Partners(score, name, pictures, None, alike, apart)


def separation(partners: Partners, one: np.ndarray, other: np.ndarray) -> Mapping[str, float]:
    """How well embeddings tell identities apart.

    Args:
        partners: The pairs.
        one: (N, D), embeddings of the probes.
        other: (N, D), embeddings of their partners.

    Returns:
        Mean cosine similarity of pictures of one identity ("similarity_positive"), of two ("similarity_negative"), and
        the difference ("similarity_gap"), where there are such pictures.
    """
    cosines = directions(one) @ directions(other).T
    found = {}
    if partners.positive.any():
        found["similarity_positive"] = float(cosines[partners.positive].mean())
    if partners.negative.any():
        found["similarity_negative"] = float(cosines[partners.negative].mean())
    if len(found) == 2:
        found["similarity_gap"] = found["similarity_positive"] - found["similarity_negative"]
    return found


def _next_of_the_same(labels: np.ndarray | None, target: str) -> tuple[np.ndarray, np.ndarray]:
    """For each probe the next one with its label, the last followed by the first."""
    if labels is None:
        raise ArgumentError(
            "probe",
            "have identities as labels for a target without reference",
            f"{target} and no labels",
            "(pictures, identities); Similarity(pictures of the partners)",
        )
    source = np.empty(len(labels), int)
    for label in np.unique(labels):
        (places,) = np.nonzero(labels == label)
        if len(places) == 1:
            raise ArgumentError(
                "probe",
                "hold at least two pictures of each identity to pair them",
                f"one of {label} among {len(labels)}",
                "more pictures, to choose from; Similarity(pictures of the partners)",
            )
        source[places] = np.roll(places, -1)
    return labels, source


def _axes(images: Structure) -> int:
    import keras

    return max(array.ndim for array in keras.tree.flatten(images))
