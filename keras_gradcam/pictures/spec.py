"""What a model takes: one picture, its size and channels, and how pixels are preprocessed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.model import declared_inputs
from ..errors import ArgumentError, described, in_one_line, printable
from .depth import Range, read_range
from .preprocessing import Preprocessing, read_preprocessing

#: The largest picture file that is read, in bytes.
LARGEST_PICTURE = 256 << 20

#: The size of pictures for models that take any.
SIZE = (224, 224)

# Operations that may scale pixels before the first layer with weights.
_SCALING = {"Rescaling", "Normalization", "TrueDivide", "Divide", "Multiply", "Subtract", "Lambda"}


@dataclass(frozen=True, eq=False)
class PictureSpec:
    """The pictures that a model takes.

    Attributes:
        size: Their height and width.
        channels: 1 or 3.
        preprocessing: What is done to pixels from 0 to 255.
        values: What is black and white in pictures of more than 8 bits; None for the usual.
        most_bytes: The largest file that is read.
    """

    size: tuple[int, int]
    channels: int
    preprocessing: Preprocessing
    values: Range | None = None
    most_bytes: int = LARGEST_PICTURE

    def blank(self) -> np.ndarray:
        """Returns a batch of one black picture as the model takes it."""
        return self.preprocessing(np.zeros((1, *self.size, self.channels), np.float32))


def picture_spec(
    model: Any,
    preprocess: Any = None,
    size: str | int | Sequence[int] | None = None,
    value_range: str | Sequence[float] | None = None,
    most_bytes: int = LARGEST_PICTURE,
) -> PictureSpec:
    """Finds out which pictures a model takes.

    Args:
        model: A Keras model.
        preprocess: What is done to pixels, see :func:`keras_gradcam.pictures.preprocessing.read_preprocessing`.
        size: Height and width for a model that takes any size, ``(240, 320)`` or as text ``"240x320"``, or a number for
            both; None for the default.
        value_range: What is black and white in pictures of more than 8 bits, see
            :func:`keras_gradcam.pictures.depth.read_range`.
        most_bytes: The largest file that is read.

    Raises:
        ArgumentError: If the model does not take one picture, or another size or number of channels.
    """
    shape, channels = _picture_shape(model)
    if size is not None and not declared_inputs(model):
        shape = None, None  # it was built with pictures of some size, and may take others
    preprocessing = read_preprocessing(preprocess)
    spec = PictureSpec(_fit_size(shape, size), channels, preprocessing, read_range(value_range), most_bytes)
    try:
        spec.blank()
    except Exception as error:
        raise ArgumentError(
            "preprocess", f"fit pictures of {channels} channels", f"{preprocessing.name}: {in_one_line(error)}"
        ) from error
    return spec


def warn_about_pixels(model: Any, preprocess: Any) -> None:
    """Warns where pixels may reach a model unlike it was trained, and of weights that are not finite.

    Args:
        model: A Keras model.
        preprocess: What is done to pixels, as far as somebody said so; else None.
    """
    if preprocess is None and not _scales_pixels(model):
        warnings.warn(
            "the model has no layer of Keras that scales pixels, and is given values from 0 to 255. If it was trained "
            "on others, say so: `preprocess` 1/255,0; 1/127.5,-1; mobilenet_v2; or none, if this is right.",
            UserWarning,
            stacklevel=2,
        )
    for variable in model.variables:
        values = np.asarray(variable)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            warnings.warn(
                f"the model's weights are not all finite numbers, {printable(variable.path)} for one.",
                UserWarning,
                stacklevel=2,
            )
            return


def input_shapes(network: Any) -> list[tuple[int | None, ...]]:
    """Returns the shapes of a model's inputs; of a subclassed model, which declares none, the one it was built with."""
    shapes = [tuple(tensor.shape) for tensor in declared_inputs(network)]
    built = (network.get_build_config() or {}).get("input_shape") if network.built and not shapes else None
    if built and all(extent is None or isinstance(extent, int) for extent in built):
        return [tuple(built)]
    return shapes


def _picture_shape(network: Any) -> tuple[tuple[int | None, int | None], int]:
    shapes = input_shapes(network)
    if len(shapes) != 1:
        what = f"{len(shapes)} inputs" if shapes else "no declared input"
        raise ArgumentError("model", "take one picture", f"a model with {what}", "keras_gradcam.explain in Python")
    shape = shapes[0]
    if len(shape) != 4:
        raise ArgumentError(
            "model",
            "take pictures, shape (batch, height, width, channels)",
            str(shape),
            "keras_gradcam.explain in Python",
        )
    channels = 3 if shape[3] is None else shape[3]
    if channels not in (1, 3):
        hint = " It looks as if its channels came first" if shape[1] in (1, 3) else ""
        raise ArgumentError(
            "model",
            "take pictures of 1 channel (grey) or 3 (red, green, blue)",
            f"{channels}.{hint}",
            "keras_gradcam.explain in Python, with channels as the model means them",
        )
    return (shape[1], shape[2]), channels


def _fit_size(shape: tuple[int | None, int | None], size: str | int | Sequence[int] | None) -> tuple[int, int]:
    """Returns the size of pictures for a model that takes ``shape``, where None is any extent."""
    wanted = None if size is None else read_size(size)
    if wanted is not None and any(own not in (None, asked) for own, asked in zip(shape, wanted, strict=True)):
        takes = f"{shape[0] or 'any'}x{shape[1] or 'any'}"
        raise ArgumentError("size", f"be what the model takes, {takes}", f"{wanted[0]}x{wanted[1]}")
    height, width = wanted or SIZE
    return shape[0] or height, shape[1] or width


def read_size(size: str | int | Sequence[int]) -> tuple[int, int]:
    """Reads height and width from ``(240, 320)`` or ``"240x320"``, or from one number for both.

    Raises:
        ArgumentError: If it is none of these.

    Example:
        >>> read_size("240x320"), read_size((240, 320)), read_size(320)
        ((240, 320), (240, 320), (320, 320))
    """
    if isinstance(size, (str, int)):
        parts = str(size).lower().split("x")
    else:
        parts = list(map(str, size)) if isinstance(size, (list, tuple)) else []
    if not (len(parts) in (1, 2) and all(part.isdecimal() and 0 < int(part) <= 4096 for part in parts)):
        raise ArgumentError("size", "be HEIGHTxWIDTH, up to 4096", described(size), ["320", "240x320"])
    return int(parts[0]), int(parts[-1])


def _scales_pixels(network: Any) -> bool:
    """Returns whether something scales pixels before the first layer with weights."""
    for layer in _operations(network):
        if type(layer).__name__ in _SCALING:
            return True
        if getattr(layer, "weights", None):
            return False
    return False


def _operations(network: Any) -> list[Any]:
    """Lists all operations in the order of the model, nested models unfolded."""
    operations: list[Any] = []
    for operation in getattr(network, "operations", None) or getattr(network, "layers", []):
        inner = _operations(operation) if hasattr(operation, "operations") or hasattr(operation, "layers") else []
        operations += inner or [operation]
    return operations
