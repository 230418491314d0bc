"""Pairs of a probe: which picture each probe is compared with, and how well the network tells identities apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.targets.base import Target
from ..engine.base import Structure
from ..errors import ArgumentError, as_numpy
from ..reid.embeddings import directions
from .probe import ProbeSamples


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs that N probes make, each with its partner.

    Attributes:
        score: Makes the target out of what a picture is compared with.
        name: The name of that target.
        pictures: The partners as the model takes them, one per probe.
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
    """Returns whether a target compares pictures but does not say with which."""
    comparison = target.comparison()
    return comparison is not None and comparison[0].references[0] is None


def make_pairs(target: Target, samples: ProbeSamples) -> tuple[Target, Pairs | None]:
    """Pairs probes as a target compares them.

    Args:
        target: Any. A :class:`keras_gradcam.Similarity`, ``Dot`` or ``Distance`` without a reference pairs each probe
            with the next one that has its label; one with a picture for each probe pairs it with that. Without labels
            such pairs are taken to be of one identity each; with labels nothing is known of the partners' identities.
        samples: The probes; their labels are identities.

    Returns:
        The target with its reference, and the pairs, or None where there are none.

    Raises:
        ArgumentError: If a reference is missing and the labels do not give one.
    """
    import keras

    comparison = target.comparison()
    if comparison is None:
        return target, None
    compared, factor = comparison
    (reference,) = compared.references
    count, kind = len(samples), type(compared)

    def score(reference: Any) -> Target:
        return kind(reference) if factor == 1 else factor * kind(reference)

    name = kind.__name__ if factor == 1 else f"{'-' if factor == -1 else f'{factor:g}*'}{kind.__name__}"
    if reference is None:
        labels, source = _next_with_same_label(samples.labels, repr(compared))
        pictures = keras.tree.map_structure(lambda array: array[source], samples.images)
        same = labels[:, None] == labels[source][None]
        is_itself = np.arange(count)[:, None] == source[None]
        pairs = Pairs(score, name, pictures, source, same & ~is_itself, ~same)
        return target.on_same_output(score(pictures)), pairs
    if isinstance(reference, np.ndarray) and (len(reference) < count or reference.ndim != _axes(samples.images)):
        return target, None  # one reference for all probes, or embeddings
    pictures = keras.tree.map_structure(lambda array: as_numpy(array)[:count], reference)
    # Labels are the probes' own: whether the partners show the same identities or other ones is not known.
    positive = np.eye(count, dtype=bool)
    negative = ~positive
    if samples.labels is not None:
        positive = negative = np.zeros((count, count), bool)
    return target.on_same_output(score(pictures)), Pairs(score, name, pictures, None, positive, negative)


def separation(pairs: Pairs, probes: np.ndarray, partners: np.ndarray) -> Mapping[str, float]:
    """Measures how well embeddings tell identities apart.

    Args:
        pairs: The pairs.
        probes: (N, D), embeddings of the probes.
        partners: (N, D), embeddings of their partners.

    Returns:
        Mean cosine similarity of pictures of one identity ("similarity_positive"), of two ("similarity_negative"), and
        the difference ("similarity_gap"), where there are such pictures.
    """
    cosines = directions(probes) @ directions(partners).T
    means = {}
    if pairs.positive.any():
        means["similarity_positive"] = float(cosines[pairs.positive].mean())
    if pairs.negative.any():
        means["similarity_negative"] = float(cosines[pairs.negative].mean())
    if len(means) == 2:
        means["similarity_gap"] = means["similarity_positive"] - means["similarity_negative"]
    return means


def _next_with_same_label(labels: np.ndarray | None, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels, and for each probe the next one with its label, the last followed by the first."""
    if labels is None:
        raise ArgumentError(
            "probe",
            "have identities as labels for a target without reference",
            f"{target} and no labels",
            ["(pictures, identities)", "Similarity(pictures of the partners)"],
        )
    source = np.empty(len(labels), int)
    for label in np.unique(labels):
        (indices,) = np.nonzero(labels == label)
        if len(indices) == 1:
            raise ArgumentError(
                "probe",
                "hold at least two pictures of each identity to pair them",
                f"one of {label} among {len(labels)}",
                ["more pictures, to choose from", "Similarity(pictures of the partners)"],
            )
        source[indices] = np.roll(indices, -1)
    return labels, source


def _axes(images: Structure) -> int:
    import keras

    return max(array.ndim for array in keras.tree.flatten(images))
