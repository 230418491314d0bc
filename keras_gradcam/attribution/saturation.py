"""Warns of gradients that have vanished because probabilities are 0 or 1."""

from __future__ import annotations

import warnings

import numpy as np

from ..engine.base import Outputs
from .targets.base import Target
from .targets.probabilities import PROBABILITIES

# Nearer than this to 0 and 1, a probability in single precision hardly changes with the scores it is made of.
_SATURATED = 1e-6


def warn_about_vanished_gradients(target: Target, outputs: Outputs) -> None:
    """Warns of samples whose maps are zero, or nearly so, because the score is made of saturated probabilities.

    Args:
        target: What is explained.
        outputs: What the model returned, as arrays.
    """
    import keras

    if not target.reads_activation(outputs):
        return
    selected = target.select_output(outputs)
    pairs = zip(keras.tree.flatten(selected.predictions), keras.tree.flatten(selected.final_activations), strict=True)
    read = [(np.asarray(values, np.float64), known) for values, known in pairs if known in PROBABILITIES]
    if not read:
        return
    saturated = np.all(
        [(np.abs(values - np.rint(values)) < _SATURATED).reshape(len(values), -1).all(axis=1) for values, _ in read],
        axis=0,
    )
    if not saturated.any():
        return
    if any(known == "probabilities" for _, known in read):
        way_out = "explain the networks one by one whose probabilities the model puts together"
    else:
        way_out = "explain a class, such as Class(3), or Function(your_function, logits=True)"
    warnings.warn(
        f"The maps of {saturated.sum()} of {len(saturated)} samples are zero, or nearly so, because the gradient has "
        f"vanished: the score is made of probabilities that are 0 or 1 to the last digit. To see more, {way_out}.",
        UserWarning,
        stacklevel=5,
    )
