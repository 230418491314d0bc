"""Targets for embeddings: how similar a picture is to another, for networks without classes.

References are embeddings, or pictures that the same model embeds with its current weights. No gradient flows
through them: what is explained is always the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from ...engine.base import Outputs, Structure, Tensor
from ...errors import ArgumentError, as_numpy
from .base import Target, check_one_output, fewer_rows
from .vectors import SAME_PLACE, direction, distance, flat

# In float32 two embeddings have one direction where their cosine is this close to one: any gradient there comes from
# rounding errors. Those of one picture in batches of other sizes differ by a millionth.
_SAME = 1e-6


def embeddings(outputs: Outputs, target: Target) -> np.ndarray:
    """Returns the embeddings in a model's outputs, float32 (N, D); of several outputs those that ``target`` selects.

    Raises:
        ValueError: If there are several and the target names none.
    """
    selected = target.select_output(outputs)
    check_one_output(selected, target)
    return np.asarray(selected.predictions, np.float32).reshape(len(selected.predictions), -1)


class ReferenceTarget(Target):
    """A score made of an embedding and one or more references."""

    is_embedding = True

    def __init__(self, **references: Any) -> None:
        self._rows = {name: _reference(name, reference) for name, reference in references.items()}
        self.num_arguments = len(references)

    @property
    def references(self) -> tuple[Any, ...]:
        """What the picture is compared with: embeddings (N, D), pictures, or None."""
        return tuple(self._rows.values())

    def with_embedded_references(self, embed: Callable[[Structure], Outputs]) -> Target:
        references = {}
        for name, rows in self._rows.items():
            if rows is None:
                requirement = "be given, except in a callback whose probe has identities as labels"
                raise ArgumentError(name, requirement, repr(self), ["pictures (N, H, W, C)", "embeddings (N, D)"])
            references[name] = rows if _is_embedding(rows) else embeddings(embed(rows), self)
        return type(self)(**references)

    def cache_key(self) -> Hashable:
        return ("embedding", type(self))

    def arguments(self, samples: int) -> tuple[np.ndarray, ...]:
        return tuple(self._argument(name, rows, samples) for name, rows in self._rows.items())

    def _argument(self, name: str, rows: Any, samples: int) -> np.ndarray:
        if not _is_embedding(rows):
            raise ArgumentError(
                name,
                "be embeddings here, where no model is known to embed pictures",
                _described(rows),
                f"Explainer(model, target={self!r})",
            )
        if len(rows) not in (1, samples):
            raise ArgumentError(
                name,
                "be one for all pictures or one for each",
                f"{len(rows)} for {samples} pictures",
                fewer_rows(len(rows), samples),
            )
        return np.ascontiguousarray(np.broadcast_to(rows, (samples, rows.shape[1])))

    def check(self, outputs: Outputs) -> None:
        check_one_output(outputs, self)
        shape = tuple(outputs.predictions.shape)
        if len(shape) < 2 or None in shape[1:]:
            raise ArgumentError(
                "target",
                "fit the model's output",
                f"{self!r} for an output of shape {shape}, where an embedding (batch, D) is needed",
                "a function `outputs -> (batch,)`",
            )
        for name, rows in self._rows.items():
            if _is_embedding(rows) and rows.shape[1] != int(np.prod(shape[1:])):
                requirement = f"be embeddings as long as the model's, {int(np.prod(shape[1:]))}, or pictures"
                raise ArgumentError(name, f"{requirement} with a batch axis", f"shape {rows.shape}")

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        return self._compared(flat(outputs.predictions), *arguments)

    def _compared(self, embedding: Tensor, *references: Tensor) -> Tensor:
        raise NotImplementedError

    def warning(self, scores: np.ndarray, outputs: Outputs) -> str | None:
        if "softmax" in str(outputs.final_activations):
            return (
                f"The model ends in a softmax, so that {type(self).__name__} compares class probabilities. Explain the "
                "model that ends in the embedding, keras.Model(model.input, model.get_layer('embedding').output); in a "
                "callback with `explainer=Explainer(...)` of that model."
            )
        return self._warning_of_likeness(scores, outputs)

    def _warning_of_likeness(self, scores: np.ndarray, outputs: Outputs) -> str | None:
        """Returns what to warn of where a picture is compared with itself, or None."""
        return None

    def __repr__(self) -> str:
        references = ", ".join(_described(rows) for rows in self._rows.values() if rows is not None)
        return f"{type(self).__name__}({references})"


class Similarity(ReferenceTarget):
    r"""The cosine of the angle between a picture's embedding f and a reference r.

    .. math:: Y = \frac{\langle f, r \rangle}{|f| |r|}

    From -1 to 1, whether the model normalises its output or not. Its gradient asks what would make the picture still
    more alike; the nearer the cosine is to one, the less is left to ask for. Compared with its own embedding a picture
    cannot become more similar: the gradient is zero and so is the map (a warning says so). :class:`SelfSimilarity` asks
    what shapes the embedding, :func:`keras_gradcam.reid.similarity_maps` what two pictures have in common.

    Args:
        reference: Pictures to be embedded by the same model at every call, (N, H, W, C) or (1, H, W, C) for all; or
            embeddings, (N, D) or (D,). In a :class:`keras_gradcam.GuidedGradCAMCallback` whose probe has identities as
            labels, None pairs each picture with the next one of the same identity.

    Raises:
        ValueError: If the reference is not made of numbers.

    Example:
        >>> import numpy as np
        >>> Similarity(np.zeros((8, 256, 128, 3)))
        Similarity(pictures (8, 256, 128, 3))

    Source: Stylianou et al., Visualizing Deep Similarity Networks, WACV 2019, https://arxiv.org/abs/1901.00536.
    """

    quantity = ("similarity", 1.0)

    def __init__(self, reference: Any = None) -> None:
        super().__init__(reference=reference)

    def comparison(self) -> tuple[Any, float] | None:
        return self, 1.0

    def _warning_of_likeness(self, scores: np.ndarray, outputs: Outputs) -> str | None:
        if (scores >= 1 - _SAME).any():
            return (
                "A picture is compared with its own embedding, or with one of the same direction: Similarity is at its "
                "maximum there, its gradient zero and its map empty. Use SelfSimilarity() for what shapes a picture's "
                "embedding. Where pictures differ, the network gives both the same embedding."
            )
        return None

    def _compared(self, embedding: Tensor, *references: Tensor) -> Tensor:
        from keras import ops

        return ops.sum(direction(embedding) * direction(references[0]), axis=1)


class Dot(ReferenceTarget):
    r"""The inner product of a picture's embedding with a reference, as the model returns it.

    .. math:: Y = \langle f, r \rangle

    Unlike :class:`Similarity` it also grows with the length of the embedding.

    Args:
        reference: Pictures or embeddings; see :class:`Similarity`.

    Example:
        >>> Dot([0.0, 1.0, 0.0])
        Dot(embedding (1, 3))
    """

    quantity = ("inner product", 1.0)

    def __init__(self, reference: Any = None) -> None:
        super().__init__(reference=reference)

    def comparison(self) -> tuple[Any, float] | None:
        return self, 1.0

    def _compared(self, embedding: Tensor, *references: Tensor) -> Tensor:
        from keras import ops

        return ops.sum(embedding * references[0], axis=1)


class _DistanceTarget(ReferenceTarget):
    """A score made of Euclidean distances."""

    def _warning_of_likeness(self, scores: np.ndarray, outputs: Outputs) -> str | None:
        embedded = embeddings(outputs, self).astype(np.float64)
        for name, given in self._rows.items():
            rows = given.astype(np.float64)
            if (np.linalg.norm(embedded - rows, axis=1) <= SAME_PLACE * np.linalg.norm(rows, axis=1)).any():
                return (
                    "A picture is compared with its own embedding, or one that only rounding errors tell from it "
                    f"(`{name}`): that distance has no gradient, and what it adds to the map is empty. Use "
                    "SelfSimilarity() for what shapes a picture's embedding."
                )
        return None


class Distance(_DistanceTarget):
    r"""The Euclidean distance from a reference, with a minus sign: a higher score is a better match.

    .. math:: Y = -|f - r|

    So the map shows what brings the picture nearer to the reference; ``-Distance(r)`` shows what keeps it away. At
    distance zero the gradient is taken as zero.

    Args:
        reference: Pictures or embeddings; see :class:`Similarity`.

    Example:
        >>> Distance([0.0, 1.0, 0.0])
        Distance(embedding (1, 3))
    """

    quantity = ("distance", -1.0)

    def __init__(self, reference: Any = None) -> None:
        super().__init__(reference=reference)

    def comparison(self) -> tuple[Any, float] | None:
        return self, 1.0

    def _compared(self, embedding: Tensor, *references: Tensor) -> Tensor:
        return 0 - distance(embedding, references[0])


class Triplet(_DistanceTarget):
    r"""How much nearer a picture is to one of its own identity than to one of another.

    .. math:: Y = |f - n| - |f - p|

    The triplet loss without margin and hinge, with a minus sign: above zero the triplet is in order.

    Args:
        positive: Pictures or embeddings of the same identity p; see :class:`Similarity`.
        negative: Pictures or embeddings of another identity n.

    Example:
        >>> Triplet([0.0, 1.0], [1.0, 0.0])
        Triplet(embedding (1, 2), embedding (1, 2))

    Source: Schroff et al., FaceNet, CVPR 2015, https://arxiv.org/abs/1503.03832.
    """

    def __init__(self, positive: Any, negative: Any) -> None:
        for name, value in (("positive", positive), ("negative", negative)):
            if value is None:
                raise ArgumentError(name, "be pictures or embeddings", "None")
        super().__init__(positive=positive, negative=negative)

    def _compared(self, embedding: Tensor, *references: Tensor) -> Tensor:
        return distance(embedding, references[1]) - distance(embedding, references[0])


class Norm(Target):
    r"""The length of a picture's embedding, before an L2 normalisation that the model ends in.

    .. math:: Y = |f|

    Example:
        >>> Norm()
        Norm()
    """

    is_embedding = True

    def cache_key(self) -> Hashable:
        return ("embedding", type(self))

    def warning(self, scores: np.ndarray, outputs: Outputs) -> str | None:
        if len(scores) > 1 and scores.any() and np.ptp(scores) <= _SAME * np.abs(scores).max():
            return (
                "All embeddings have one length, as after a normalisation that is not recognised. Where it cannot "
                "change, maps of it are empty but for rounding errors: give the model that ends before it."
            )
        return None

    def check(self, outputs: Outputs) -> None:
        check_one_output(outputs, self)
        if len(outputs.predictions.shape) < 2:
            raise ArgumentError(
                "target",
                "fit the model's output",
                f"{self!r} for an output of shape {tuple(outputs.predictions.shape)}",
                "a function `outputs -> (batch,)`",
            )

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        from keras import ops

        embedding = flat(outputs.pre_normalization)
        return distance(embedding, ops.zeros_like(embedding))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class SelfSimilarity(Norm):
    r"""What shapes a picture's embedding: how far it reaches into the direction that it has.

    .. math:: Y = \Bigl\langle f, \text{stop\_gradient}\Bigl(\frac{f}{|f|}\Bigr) \Bigr\rangle

    The cosine of f with itself is one whatever f is, and its gradient zero; with the direction held fixed it is not.
    f is taken before an L2 normalisation that the model ends in, after which its length could not change either. Value
    and gradient are those of :class:`Norm`.

    Example:
        >>> SelfSimilarity()
        SelfSimilarity()
    """

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        from keras import ops

        embedding = flat(outputs.pre_normalization)
        return ops.sum(embedding * ops.stop_gradient(direction(embedding)), axis=1)


def _reference(name: str, reference: Any) -> Any:
    """Returns embeddings as float32 (N, D), and pictures or None as they are."""
    if reference is None or isinstance(reference, dict):
        return reference
    if isinstance(reference, (list, tuple)) and reference and all(np.ndim(part) >= 4 for part in reference):
        return reference  # batches for several inputs
    try:
        array = as_numpy(reference)
    except (TypeError, ValueError) as error:
        raise ArgumentError(name, "be an array", f"{type(reference).__name__} ({error})") from error
    if (array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16") or array.ndim == 0 or not array.size:
        raise ArgumentError(
            name,
            "be pictures (N, H, W, C) or embeddings (N, D)",
            f"{type(reference).__name__}, dtype {array.dtype}, shape {array.shape}",
            "the pictures that those names stand for" if array.dtype.kind in "SUO" else (),
        )
    if array.ndim > 2:
        return array
    rows = np.atleast_2d(array).astype(np.float32)
    if not np.isfinite(rows).all():
        raise ArgumentError(name, "be finite", "embeddings that are not")
    return rows


def _is_embedding(rows: Any) -> bool:
    return isinstance(rows, np.ndarray) and rows.ndim == 2


def _described(reference: Any) -> str:
    if not isinstance(reference, np.ndarray):
        return "None" if reference is None else "pictures"
    return f"{'embedding' if reference.ndim == 2 else 'pictures'} {reference.shape}"
