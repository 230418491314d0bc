"""Extents that a model leaves free."""

from __future__ import annotations

from keras_gradcam.engine.base import InputSpec, LayerCall, LayerOutput
from keras_gradcam.engine.graphs.extents import common_shape, with_extents


def output(*shape):
    return LayerOutput(LayerCall("conv", "Conv2D", shape), None, None)


def test_inputs_of_known_extents_stay_as_they_are():
    spec = InputSpec(0, (((8, 6, 3), "float32"),))
    assert with_extents(spec) == [spec]


def test_free_extents_are_filled_in_two_ways():
    first, second = with_extents(InputSpec([0, 0], (((None, 6, 3), "float32"), ((4,), "int32"))))
    (shape, dtype), other = first.leaves
    assert (shape[1:], dtype, other) == ((6, 3), "float32", ((4,), "int32"))
    assert shape[0] != second.leaves[0][0][0]


def test_what_differs_between_sizes_is_free():
    assert common_shape(output(None, 48, 3, 8), output(None, 80, 3, 8)).info.output_shape == (None, None, 3, 8)
    assert common_shape(output(None, 8)).info.output_shape == (None, 8)
