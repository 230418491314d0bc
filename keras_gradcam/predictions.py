"""What a model said, for captions and curves: classes and probabilities out of its raw outputs."""

from __future__ import annotations

import numpy as np


def class_probabilities(predictions: np.ndarray, ending: str) -> np.ndarray | None:
    """Probabilities of the classes, from outputs as the model returns them.

    An output that ends in a softmax or sigmoid holds them already. Raw scores go through a softmax (one unit: through
    a sigmoid), unless every row is already a distribution. One unit stands for two classes.

    Args:
        predictions: (N, K) outputs.
        ending: "softmax", "log_softmax", "sigmoid", "l2_normalization", or "" if the output ends in none.

    Returns:
        (N, max(K, 2)), or None if the outputs are not of shape (N, K) or are embeddings.

    Example:
        >>> import numpy as np
        >>> class_probabilities(np.array([[0.75]]), "sigmoid")
        array([[0.25, 0.75]])
    """
    if not isinstance(predictions, np.ndarray) or predictions.ndim != 2 or ending == "l2_normalization":
        return None
    values = predictions.astype(np.float64)
    if ending == "log_softmax":
        return np.exp(values)
    if values.shape[1] == 1:
        one = values if ending == "sigmoid" else np.exp(-np.logaddexp(0, -values))
        return np.concatenate([1 - one, one], axis=1)
    distribution = (values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=1e-3)
    if ending or distribution:
        return values
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
