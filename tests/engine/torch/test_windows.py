"""Convolutions, poolings and resizing of PyTorch, beside changing every pixel in turn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from fields import changed_boxes
from torch_fields import SHAPE, boxes_of, kernel, on_pictures

CASES = {
    "convolution": lambda x: F.conv2d(x, kernel(3, 2, 3, 2)),
    "strided, padded": lambda x: F.conv2d(x, kernel(3, 2, 3, 3), stride=2, padding=1),
    "same": lambda x: F.conv2d(x, kernel(3, 2, 3, 3), padding="same"),
    "dilated": lambda x: F.conv2d(x, kernel(3, 2, 2, 2), dilation=2),
    "grouped": lambda x: F.conv2d(x, kernel(4, 1, 2, 2), groups=2),
    "transposed": lambda x: F.conv_transpose2d(x, kernel(2, 3, 3, 3), stride=2, padding=1),
    "transposed, longer": lambda x: F.conv_transpose2d(x, kernel(2, 3, 3, 3), stride=2, padding=1, output_padding=1),
    "maximum": lambda x: F.max_pool2d(x, 2),
    "maximum, ceiling": lambda x: F.max_pool2d(x, 3, stride=2, ceil_mode=True),
    "mean": lambda x: F.avg_pool2d(x, (3, 2), stride=(2, 1), padding=(1, 0)),
    "adaptive mean": lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
    "bilinear": lambda x: F.interpolate(x, (4, 8), mode="bilinear"),
    "bicubic": lambda x: F.interpolate(x, (9, 4), mode="bicubic"),
    "bilinear, antialiased": lambda x: F.interpolate(x, (3, 3), mode="bilinear", antialias=True),
}


@pytest.mark.parametrize("name", CASES)
def test_receptive_field(name):
    function = on_pictures(CASES[name])
    found = boxes_of(function)
    np.testing.assert_array_equal(found, changed_boxes(lambda x: function(torch.from_numpy(x)).numpy(), SHAPE))
