"""Numbers about maps: what one is like, how far it moved, where it points to, and whether it is faithful."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .drift import center_shift, overlap, rank_correlation, settled_epoch, total_variation
    from .faithfulness import (
        Curve,
        MaskedConfidence,
        average_drop,
        deletion,
        increase_in_confidence,
        insertion,
        masked_confidence,
    )
    from .localization import Localization, iou, localize
    from .randomization import Randomization, randomization_check
    from .regions import Region, mass_inside, pointing_game, region_mask
    from .statistics import PerSample, center_of_mass, focus, mass, mean_of_present
    from .trust import Check, TrustReport, trust_report

# Public name -> module, imported when the name is first used: some need SciPy and a model, most only NumPy.
_MODULES = {
    "Check": "trust",
    "Curve": "faithfulness",
    "Localization": "localization",
    "MaskedConfidence": "faithfulness",
    "PerSample": "statistics",
    "Randomization": "randomization",
    "Region": "regions",
    "TrustReport": "trust",
    "average_drop": "faithfulness",
    "center_of_mass": "statistics",
    "center_shift": "drift",
    "deletion": "faithfulness",
    "focus": "statistics",
    "increase_in_confidence": "faithfulness",
    "insertion": "faithfulness",
    "iou": "localization",
    "localize": "localization",
    "masked_confidence": "faithfulness",
    "mass": "statistics",
    "mass_inside": "regions",
    "mean_of_present": "statistics",
    "overlap": "drift",
    "pointing_game": "regions",
    "randomization_check": "randomization",
    "rank_correlation": "drift",
    "region_mask": "regions",
    "settled_epoch": "drift",
    "total_variation": "drift",
    "trust_report": "trust",
}

__all__ = [
    "Check",
    "Curve",
    "Localization",
    "MaskedConfidence",
    "PerSample",
    "Randomization",
    "Region",
    "TrustReport",
    "average_drop",
    "center_of_mass",
    "center_shift",
    "deletion",
    "focus",
    "increase_in_confidence",
    "insertion",
    "iou",
    "localize",
    "masked_confidence",
    "mass",
    "mass_inside",
    "mean_of_present",
    "overlap",
    "pointing_game",
    "randomization_check",
    "rank_correlation",
    "region_mask",
    "settled_epoch",
    "total_variation",
    "trust_report",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
