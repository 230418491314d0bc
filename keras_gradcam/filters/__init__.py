"""What filters have learned: kernels as pictures, the pictures that excite filters most, and receptive fields.

Imported plainly, so that ``receptive_field`` and ``top_activations`` are the functions, not the modules of these names.
"""

from __future__ import annotations

from .kernels import Filters, Kernels, filter_kernels
from .receptive_field import ReceptiveField, receptive_field
from .top_activations import Activation, TopActivations, top_activations

__all__ = [
    "Activation",
    "Filters",
    "Kernels",
    "ReceptiveField",
    "TopActivations",
    "filter_kernels",
    "receptive_field",
    "top_activations",
]
