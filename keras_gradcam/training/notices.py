"""Warnings in the middle of a training, which none of them may end."""

from __future__ import annotations

import logging
import warnings

#: Takes warnings where Python is told to raise them.
LOGGER = logging.getLogger("keras_gradcam")


def warn(message: str, category: type[Warning] = UserWarning, stacklevel: int = 2) -> None:
    """Warns; where warnings are raised (``python -W error``), logs the message instead.

    Args:
        message: What to say.
        category: The kind of warning.
        stacklevel: As for ``warnings.warn``: 2 is the caller of the function that calls this one.

    Example:
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     warn("The disk is full.")
    """
    try:
        warnings.warn(message, category, stacklevel=stacklevel + 1)
    except Warning:
        LOGGER.warning("%s: %s", category.__name__, message)
