"""See what a Keras vision model looks at, and how that changes while it learns."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attributions import Sampling
    from .callback import GuidedGradCAMCallback
    from .embedding_targets import Distance, Dot, Norm, SelfSimilarity, Similarity, Triplet
    from .engine.base import LayerCall
    from .explainer import Explainer, explain
    from .explanation import Explanation
    from .layers import list_layers
    from .maps import GradCAM, gradcam
    from .targets import Class, Output, Target, TopClass, Unit

__version__ = "0.1.0"

# Public name -> module. Modules are imported when a name is first used: TensorBoard imports this package to find its
# tab, on machines where TensorFlow and Keras may be slow to import, broken or absent.
_MODULES = {
    "Class": "targets",
    "Distance": "embedding_targets",
    "Dot": "embedding_targets",
    "Explainer": "explainer",
    "Explanation": "explanation",
    "GradCAM": "maps",
    "GuidedGradCAMCallback": "callback",
    "LayerCall": "engine.base",
    "Norm": "embedding_targets",
    "Output": "targets",
    "Sampling": "attributions",
    "SelfSimilarity": "embedding_targets",
    "Similarity": "embedding_targets",
    "Target": "targets",
    "TopClass": "targets",
    "Triplet": "embedding_targets",
    "Unit": "targets",
    "explain": "explainer",
    "gradcam": "maps",
    "list_layers": "layers",
}

__all__ = [
    "Class",
    "Distance",
    "Dot",
    "Explainer",
    "Explanation",
    "GradCAM",
    "GuidedGradCAMCallback",
    "LayerCall",
    "Norm",
    "Output",
    "Sampling",
    "SelfSimilarity",
    "Similarity",
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
