"""What goes between arrays and tensors."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from keras_gradcam.engine.torch.arrays import array_of, float32_of, tensor_of_array


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32", "bool"])
def test_an_array_keeps_the_dtype_of_a_tensor_that_has_a_gradient_or_none(dtype):
    tensor = torch.tensor([0, 1, 2]).to(getattr(torch, dtype))
    if tensor.is_floating_point():
        tensor.requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        array = array_of(tensor)
    assert (str(array.dtype), array.astype(int).tolist()) == (dtype, [0, 1, 1 if dtype == "bool" else 2])


def test_arrays_and_tensors_share_no_memory():
    tensor = torch.zeros(3)
    array_of(tensor)[:] = 1
    float32_of(tensor)[:] = 1
    assert not tensor.any()
    array = np.zeros(3, "float32")
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor_of_array(array).add_(1)
    assert not array.any()
