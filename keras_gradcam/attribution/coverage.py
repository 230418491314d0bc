"""Warns of activations that a method is not meant for: those without a guided rule, and those below zero."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from ..engine.base import GuidedCoverage
from .methods.names import TITLES

#: The methods whose papers assume activations >= 0.
OF_POSITIVE = ("gradcam_plus_plus", "xgradcam")

#: Beside them the smallest activation of each cell is computed under this name.
SMALLEST = "smallest activation"


def warn_about_signs(methods: Sequence[str], layer: str | None, smallest: np.ndarray) -> bool:
    """Warns where a formula that assumes activations >= 0 was applied to others; returns whether it was.

    Args:
        methods: What was computed.
        layer: Path of the layer.
        smallest: (N, *space), the smallest activation of each cell.
    """
    if not (smallest < 0).any():
        return False
    titles = [TITLES[name] for name in OF_POSITIVE if name in methods]
    warnings.warn(
        f"{' and '.join(titles)} {'assume' if len(titles) > 1 else 'assumes'} activations >= 0, as after a ReLU; those "
        f"of {layer!r} go down to {smallest.min():.3g}, and channels may be weighted wrongly. Name a layer after a "
        "ReLU, or use 'hirescam' or 'gradcam', which assume nothing.",
        UserWarning,
        stacklevel=5,
    )
    return True


def warn_about_guided_coverage(coverage: GuidedCoverage) -> None:
    """Warns where guided backpropagation is not what it is in a network of ReLUs."""
    if not coverage.reached:
        others = ", ".join(coverage.others) or "no nonlinearity known here"
        warnings.warn(
            "The model holds no ReLU that the guided rule could reach, so `guided_backprop` is plain backpropagation. "
            f"Found instead: {others}.",
            UserWarning,
            stacklevel=4,
        )
        return
    if coverage.others:
        warnings.warn(
            "`guided_backprop` follows its rule at the ReLUs of the model alone; its other activations keep their "
            f"ordinary gradient: {', '.join(coverage.others)}. Where it looks noisy, see `saliency` or `smoothgrad`.",
            UserWarning,
            stacklevel=4,
        )
    if coverage.unreached:
        warnings.warn(
            f"{coverage.unreached} ReLU operations inside a loop or a branch, or recomputed in the backward pass, keep "
            "their ordinary gradient in `guided_backprop`; the guided rule reaches the others.",
            UserWarning,
            stacklevel=4,
        )
