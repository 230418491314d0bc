"""Lengths, directions and distances of embeddings, of any size, in tensors of the Keras backend."""

from __future__ import annotations

import numpy as np

from ...engine.base import Tensor

#: Two embeddings are the same where their distance, as a share of their length, is no more than rounding in float32.
SAME_PLACE = 1e-5


def flat(embedding: Tensor) -> Tensor:
    """Returns embeddings as (batch, D) in float32."""
    from keras import ops

    size = int(np.prod(embedding.shape[1:]))
    return ops.cast(ops.reshape(embedding, (-1, size)), "float32")


def direction(vectors: Tensor) -> Tensor:
    """Returns vectors of length one; a zero vector has no direction and stays zero."""
    scaled = vectors / largest(vectors)
    return scaled / length(scaled)


def length(vectors: Tensor) -> Tensor:
    """Returns |v|, shape (batch, 1); 1 for a zero vector."""
    from keras import ops

    scale = largest(vectors)
    squares = ops.sum(ops.square(vectors / scale), axis=1, keepdims=True)
    return scale * ops.sqrt(ops.where(squares > 0, squares, ops.ones_like(squares)))


def largest(vectors: Tensor) -> Tensor:
    """Returns max |v_i|, shape (batch, 1), as a constant; 1 for a zero vector.

    Divided by it first, the squares of very small and very large numbers neither vanish nor overflow in float32.
    """
    from keras import ops

    size = ops.stop_gradient(ops.max(ops.abs(vectors), axis=1, keepdims=True))
    return ops.where(size > 0, size, ops.ones_like(size))


def distance(vectors: Tensor, others: Tensor) -> Tensor:
    """Returns |v - w|, shape (batch,), with zero gradient where it is zero but for rounding errors."""
    from keras import ops

    between = vectors - others
    is_zero = ops.all(between == 0, axis=1)
    apart = length(between)[:, 0]
    own = ops.where(ops.all(others == 0, axis=1), ops.zeros_like(apart), length(others)[:, 0])
    has_gradient = ops.logical_and(ops.logical_not(is_zero), apart > SAME_PLACE * own)
    near = ops.stop_gradient(ops.where(is_zero, ops.zeros_like(apart), apart))
    return ops.where(has_gradient, apart, near)
