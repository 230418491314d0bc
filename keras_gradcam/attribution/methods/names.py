"""What can be computed, by name. Standard library only: the command line's help reads it."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import ArgumentError

#: Methods that give a map on the layer's grid, with their titles. One forward pass serves them all.
CAMS = {
    "gradcam": "Grad-CAM",
    "gradcam_plus_plus": "Grad-CAM++",
    "hirescam": "HiResCAM",
    "xgradcam": "XGrad-CAM",
    "layercam": "LayerCAM",
}

#: Methods that give a map at the size of the input, with their titles.
INPUT_MAPS = {
    "guided_backprop": "guided backprop",
    "guided_gradcam": "guided Grad-CAM",
    "saliency": "saliency",
    "input_x_gradient": "input x gradient",
    "smoothgrad": "SmoothGrad",
    "integrated_gradients": "integrated gradients",
}

TITLES = {**CAMS, **INPUT_MAPS}

METHODS = tuple(TITLES)

DEFAULT_METHODS = ("gradcam", "guided_backprop", "guided_gradcam")


def as_methods(methods: str | Sequence[str]) -> tuple[str, ...]:
    """The names of one or several methods, each once.

    Raises:
        ValueError: If there is none, or one is unknown.

    Example:
        >>> as_methods("layercam"), as_methods(["gradcam", "saliency", "gradcam"])
        (('layercam',), ('gradcam', 'saliency'))
    """
    names = (methods,) if isinstance(methods, str) else tuple(dict.fromkeys(methods))
    if not names or not set(names) <= set(METHODS):
        raise ArgumentError("methods", "name known methods, at least one", repr(names), ", ".join(METHODS))
    return names
