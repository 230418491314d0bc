"""Which process of a training on several is the first."""

from __future__ import annotations

import os

import torch


def is_first_process() -> bool:
    """Returns whether this is rank 0 of the processes that ``torch.distributed`` has joined.

    Where they are not joined, the variables of ``torchrun`` tell. True for a training in a single process.

    Source: https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables.

    Example:
        >>> is_first_process()
        True
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return bool(torch.distributed.get_rank() == 0)
    return _number("WORLD_SIZE", 1) <= 1 or _number("RANK", 0) == 0


def _number(variable: str, default: int) -> int:
    try:
        return int(os.environ.get(variable, default))
    except ValueError:
        return default
