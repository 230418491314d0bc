"""Which process of a training on several is the first."""

from __future__ import annotations

import jax


def is_first_process() -> bool:
    """Returns whether this is process 0 of those that ``jax.distributed`` (``keras.distribution``) has joined.

    True for a training in a single process, on any number of devices.

    Example:
        >>> is_first_process()
        True
    """
    return bool(jax.process_index() == 0)
