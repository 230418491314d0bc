"""Arrays on the CPU for tensors, and tensors for arrays, which share no memory."""

from __future__ import annotations

from typing import Any

import keras
import ml_dtypes
import numpy as np
import torch


def array_of(tensor: Any) -> np.ndarray:
    """Copies a tensor into an array of the same dtype.

    Example:
        >>> array_of(torch.ones(2, dtype=torch.bfloat16, requires_grad=True))
        array([1, 1], dtype=bfloat16)
    """
    tensor = keras.ops.convert_to_tensor(tensor).detach().cpu()
    if tensor.dtype == torch.bfloat16:  # which NumPy does not have by itself
        return tensor.to(torch.float32).numpy().astype(ml_dtypes.bfloat16)
    return np.array(tensor.numpy())


def float32_of(tensor: torch.Tensor) -> np.ndarray:
    """Copies a tensor into an array of float32."""
    return array_of(tensor.to(torch.float32))


def tensor_of_array(array: np.ndarray) -> torch.Tensor:
    """Copies an array into a tensor on Keras' device."""
    tensor: torch.Tensor = keras.ops.convert_to_tensor(np.array(array))
    return tensor
