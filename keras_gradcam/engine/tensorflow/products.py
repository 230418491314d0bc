"""TensorFlow's sums of products, in the words of :mod:`keras_gradcam.engine.graphs.graph`."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from ..graphs.graph import CONTRACTION, Operation
from . import kinds
from .operations import attribute, text

# What says that the first, or the second, factor is transposed.
_TURNS = (("transpose_a", "adj_x"), ("transpose_b", "adj_y"))


def product(operation: Operation, op: tf.Operation, shape: Sequence[int]) -> None:
    """Says which axes a product of matrices, or an Einstein sum, multiplies and sums over.

    Args:
        operation: Its translation, with its inputs.
        op: The operation.
        shape: Shape of its result, for one sample.
    """
    if op.type in kinds.MATRIX_PRODUCTS:
        *terms, result = _of_matrices(op, [len(value.shape) for value in operation.inputs], len(shape))
    elif op.type == "Einsum":
        left, _, result = text(op.get_attr("equation")).replace(" ", "").partition("->")
        ranks = [len(value.shape) for value in operation.inputs]
        terms = [_without_ellipsis(term, rank) for term, rank in zip(left.split(","), ranks, strict=True)]
        result = _without_ellipsis(result, len(shape))
    else:
        return
    if any(len(set(term)) != len(term) for term in terms):  # a diagonal
        return
    extents = dict(zip(result, shape, strict=True))
    terms = [_apart(term, value.shape, extents) for term, value in zip(terms, operation.inputs, strict=True)]
    operation.rule, operation.parameters = CONTRACTION, {"labels": (*terms, result)}


def _of_matrices(op: tf.Operation, ranks: Sequence[int], rank: int) -> list[str]:
    """Returns the labels of the axes of both factors and of the product; those of batches are broadcast."""
    batch = "".join(chr(0x100 + number) for number in range(rank - 2, 0, -1))
    labels = []
    for names, count, matrix in zip(
        (("transpose_a", "adj_x"), ("transpose_b", "adj_y")), ranks, ("ij", "jk"), strict=True
    ):
        is_turned = any(attribute(op, name) for name in names)
        labels.append(batch[len(batch) - (count - 2) :] + (matrix[::-1] if is_turned else matrix))
    return [*labels, batch + "ik"]


def _without_ellipsis(labels: str, rank: int) -> str:
    """Replaces an ellipsis in the labels of a tensor's axes by one letter for each axis that it stands for."""
    if "..." not in labels:
        return labels
    hidden = rank - len(labels) + 3
    return labels.replace("...", "".join(chr(0x100 + number) for number in range(hidden, 0, -1)))


def _apart(term: str, shape: Sequence[int], extents: dict[str, int]) -> str:
    """Returns the labels of a factor, with another letter for each axis of length one that is broadcast."""
    return "".join(
        chr(ord(label) + 0x1000) if extent == 1 and extents.get(label, 1) > 1 else label
        for label, extent in zip(term, shape, strict=True)
    )
