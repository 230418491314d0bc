"""Names for the cases of a test that are the same in every process."""

from __future__ import annotations

import re


def spelled(value: object) -> str:
    """How a value is written, without the address at which it lies."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
