"""Calls of operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from keras_gradcam.engine.torch.calls import Call, flat_tensors, on_arrays

ATEN = torch.ops.aten


def test_arguments_are_known_by_name_with_their_defaults():
    x, y = torch.ones(2), torch.ones(2)
    call = Call.of(ATEN.add_.Tensor, (x,), {"other": y})
    assert (call.name, list(call.arguments), call.arguments["alpha"]) == ("add", ["self", "other", "alpha"], 1)
    assert call.slots() == [("self", None), ("other", None)]
    assert call.get(("other", None)) is y
    assert [tensor is x for tensor in call.written()] == [True]
    assert Call.of(ATEN._softmax.default, (x, 0, False), {}).written() == []


def test_tensors_in_lists_have_slots_of_their_own():
    x, index = torch.arange(6.0).reshape(2, 3), torch.tensor([2, 0])
    call = Call.of(ATEN.index.Tensor, (x, [None, index]), {})
    assert call.slots() == [("self", None), ("indices", 1)]
    assert call.slots("indices") == [("indices", 1)]
    np.testing.assert_array_equal(call.again(call.slots())(10 * x, index)[0], [20, 0])


def test_a_call_again_writes_to_nothing_and_keeps_no_tensor():
    x = torch.tensor([-1.0, 2.0])
    call = Call.of(ATEN.relu_.default, (x,), {})
    again, other = call.again(call.slots()), torch.tensor([-3.0, 4.0])
    np.testing.assert_array_equal(again(other), [0, 4])
    np.testing.assert_array_equal(other, [-3, 4])
    assert not any(
        isinstance(part, torch.Tensor) for cell in again.__closure__ for part in flat_tensors(cell.cell_contents)
    )


@pytest.mark.parametrize("operator", [ATEN.view.default, ATEN._unsafe_view.default])
def test_elements_that_do_not_lie_in_a_row_are_reshaped_all_the_same(operator):
    call = Call.of(operator, (torch.arange(6.0).reshape(2, 3), [6]), {})
    np.testing.assert_array_equal(call.repeated([torch.arange(6.0).reshape(3, 2).T])[0], [0, 2, 4, 1, 3, 5])


def test_functions_of_tensors_take_arrays_in_their_precision():
    run = on_arrays(lambda x: (x + 1, [x * 2]))
    one, two = run([np.array([1.5])])
    assert (one.dtype, one[0], two[0]) == (np.float64, 2.5, 3)
    (whole,) = on_arrays(lambda x: x.flip(0))([np.array([1, 2], "int32")])
    assert (whole.dtype, whole.tolist()) == (np.int32, [2, 1])
