"""Warns of activations that the guided rule does not change."""

from __future__ import annotations

import warnings

from ..engine.base import GuidedCoverage


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
