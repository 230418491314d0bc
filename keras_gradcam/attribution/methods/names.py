"""What can be computed, by name. Standard library only: the command line's help reads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Union

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


#: What a function that takes methods understands: names, and methods with options of their own, such as
#: ``SmoothGrad(samples=50)``; see :mod:`keras_gradcam.attribution.methods.sampling`.
MethodsLike = Union[str, Any, Sequence[Union[str, Any]]]


def method_names(methods: MethodsLike) -> tuple[str, ...]:
    """Returns the names of one or several methods, each once.

    Raises:
        ArgumentError: If there is none, one is unknown, or one is given with two sets of options.

    Example:
        >>> method_names("layercam"), method_names(["gradcam", "saliency", "gradcam"])
        (('layercam',), ('gradcam', 'saliency'))
    """
    is_one = isinstance(methods, str) or not isinstance(methods, Iterable) or getattr(methods, "shape", None) == ()
    listed = [methods] if is_one else list(methods)
    names = [method if isinstance(method, str) else getattr(method, "name", None) for method in listed]
    if not names or not all(name in METHODS for name in names) or any(isinstance(method, type) for method in listed):
        raise ArgumentError("methods", "name known methods, at least one", repr(methods), METHODS)
    for method, name in zip(listed, names, strict=True):
        if not isinstance(method, str) and names.count(name) > 1:
            raise ArgumentError("methods", f"hold {name!r} once", repr(methods))
    return tuple(dict.fromkeys(map(str, names)))
