"""See what a Keras vision model looks at, and how that changes while it learns."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

if TYPE_CHECKING:
    from .attribution.explainer import Explainer, explain
    from .attribution.explanation import Explanation
    from .attribution.layers import list_layers
    from .attribution.methods.formulas import GradCAMResult, gradcam
    from .attribution.methods.sampling import IntegratedGradients, SmoothGrad
    from .attribution.targets.base import Target
    from .attribution.targets.classes import Class, TopClass, Unit
    from .attribution.targets.embeddings import Distance, Dot, Norm, SelfSimilarity, Similarity, Triplet
    from .attribution.targets.outputs import Function, Output
    from .drawing.pixels import Style
    from .engine.base import LayerCall
    from .errors import ArgumentError
    from .training.callback import GuidedGradCAMCallback
    from .training.history import History
    from .training.probe import Probe

# Public name -> module. Modules are imported when a name is first used: TensorBoard imports this package to find its
# tab, on machines where TensorFlow and Keras may be slow to import, broken or absent.
_MODULES = {
    "ArgumentError": "errors",
    "Class": "attribution.targets.classes",
    "Distance": "attribution.targets.embeddings",
    "Dot": "attribution.targets.embeddings",
    "Explainer": "attribution.explainer",
    "Explanation": "attribution.explanation",
    "Function": "attribution.targets.outputs",
    "GradCAMResult": "attribution.methods.formulas",
    "GuidedGradCAMCallback": "training.callback",
    "History": "training.history",
    "IntegratedGradients": "attribution.methods.sampling",
    "LayerCall": "engine.base",
    "Norm": "attribution.targets.embeddings",
    "Output": "attribution.targets.outputs",
    "Probe": "training.probe",
    "SelfSimilarity": "attribution.targets.embeddings",
    "Similarity": "attribution.targets.embeddings",
    "SmoothGrad": "attribution.methods.sampling",
    "Style": "drawing.pixels",
    "Target": "attribution.targets.base",
    "TopClass": "attribution.targets.classes",
    "Triplet": "attribution.targets.embeddings",
    "Unit": "attribution.targets.classes",
    "explain": "attribution.explainer",
    "gradcam": "attribution.methods.formulas",
    "list_layers": "attribution.layers",
}

__all__ = [
    "ArgumentError",
    "Class",
    "Distance",
    "Dot",
    "Explainer",
    "Explanation",
    "Function",
    "GradCAMResult",
    "GuidedGradCAMCallback",
    "History",
    "IntegratedGradients",
    "LayerCall",
    "Norm",
    "Output",
    "Probe",
    "SelfSimilarity",
    "Similarity",
    "SmoothGrad",
    "Style",
    "Target",
    "TopClass",
    "Triplet",
    "Unit",
    "explain",
    "gradcam",
    "list_layers",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
