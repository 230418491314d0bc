"""What a user has to be told about a model or its maps."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .engine.base import Program


def check_whole_number(name: str, number: Any, least: int) -> None:
    """Raises ValueError unless ``number`` is a whole number of at least ``least``."""
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < least:
        raise ValueError(f"`{name}` must be a whole number >= {least}. Received: {number!r}.")


def check_channels_last(model: Any, shape: Sequence[int]) -> None:
    """Raises ValueError for a model with its channels first; warns of an input that looks like it."""
    first = [layer for layer in model._flatten_layers() if getattr(layer, "data_format", None) == "channels_first"]
    if first:
        raise ValueError(
            "`model` must have its channels last. "
            f"Received: layer {first[0].name!r} with data_format='channels_first'. "
            "Candidates: the same model built with data_format='channels_last'."
        )
    if len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) > 4:
        warnings.warn(
            f"The input of shape {tuple(shape)} looks as if its channels came first; it is read as (H, W, C), and maps "
            "are laid out accordingly.",
            UserWarning,
            stacklevel=4,
        )


def warn_about_infinities(arrays: Mapping[str, np.ndarray | None]) -> None:
    """Warns of scores and maps that are not finite."""
    for name, array in arrays.items():
        if array is not None and not np.isfinite(array).all():
            bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            warnings.warn(
                f"`{name}` is not finite for {bad.sum()} of {len(bad)} samples. The model's weights or outputs are "
                "likely not finite there, or a 16-bit gradient overflowed.",
                RuntimeWarning,
                stacklevel=5,
            )


def warn_about_rectifiers(program: Program) -> None:
    """Warns where guided backpropagation is not what it is in a network of ReLUs."""
    found = program.rectifiers
    if not found.reached:
        others = ", ".join(found.others) or "no nonlinearity known here"
        warnings.warn(
            "The model holds no ReLU that the guided rule could reach, so `guided_backprop` is plain backpropagation. "
            f"Found instead: {others}.",
            UserWarning,
            stacklevel=4,
        )
    elif found.unreached:
        warnings.warn(
            f"{found.unreached} ReLU operations inside a loop or a branch, or recomputed in the backward pass, keep "
            "their ordinary gradient in `guided_backprop`; the guided rule reaches the others.",
            UserWarning,
            stacklevel=4,
        )


def warn_about_tokens(chosen: str, layers: int, candidates: Sequence[str]) -> None:
    """Warns where the feature map that is explained without being named is what goes into a transformer."""
    listed = ", ".join(f"layer={path!r}" for path in candidates)
    warnings.warn(
        f"Without a `layer` the map of {chosen!r} is explained, which goes into a transformer (layers of tokens that "
        f"follow it: {layers}). Candidates: {listed}. Compare their maps, since a token may carry what lies elsewhere; "
        "after the last attention maps are empty where the score is read from a class token.",
        UserWarning,
        stacklevel=4,
    )
