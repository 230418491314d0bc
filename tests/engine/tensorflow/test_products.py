"""What products of matrices and Einstein sums see, beside changing every pixel in turn."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorflow_graphs import check_reach, kernel, translated

CASES = {
    "MatMul": lambda x: tf.matmul(x[:, :, :, 0], kernel(1, 5, 4)),
    "MatMul of a transposed": lambda x: tf.matmul(x[:, :, :, 0], kernel(1, 6, 4), transpose_a=True),
    "MatMul of two": lambda x: tf.matmul(x[:, :, :, 0], x[:, :, :, 1], transpose_b=True),
    "Einsum": lambda x: tf.einsum("bhwc,cd->bwhd", x, kernel(2, 3)),
    "Einsum with an ellipsis": lambda x: tf.einsum("b...c,cd->b...d", x, kernel(2, 3)),
    "Einsum of two": lambda x: tf.einsum("bhc,bwc->bhw", x[:, :, 0], x[:, 2]),
}


@pytest.mark.parametrize("name", CASES)
def test_receptive_field_equals_brute_force(name):
    check_reach(CASES[name])


@pytest.mark.parametrize(
    ("function", "labels"),
    [
        (lambda x: tf.matmul(x, x, transpose_a=True), ("baji", "bajk", "baik")),
        (lambda x: tf.matmul(x, kernel(2, 3)), ("baij", "jk", "baik")),
        (lambda x: tf.matmul(x[:, :1], x, transpose_b=True), ("bzij", "bakj", "baik")),
        (lambda x: tf.einsum("...ij,jk->...ik", x, kernel(2, 3)), ("baij", "jk", "baik")),
    ],
)
def test_labels_of_axes(function, labels):
    """Labels are compared up to their letters."""
    _, end = translated(function)
    found = end.producer.parameters["labels"]
    letters = dict(zip("".join(found), "".join(labels), strict=True))
    assert tuple("".join(letters[label] for label in term) for term in found) == labels
    assert len(set(letters.values())) == len(letters)
