"""Parts of a graph are found and computed on other numbers."""

from __future__ import annotations

import numpy as np
import pytest
from graph_builder import GraphBuilder

from keras_gradcam.engine.graphs.graph import Value
from keras_gradcam.engine.graphs.trials import computed, numbers_of, run_on, steps_between


@pytest.fixture
def builder():
    return GraphBuilder()


@pytest.fixture
def x(builder):
    return builder.elementwise("exp", builder.input((2, 3)))


def names(steps):
    return [step.function for step in steps]


def test_steps_are_in_their_order_and_each_of_them_once(builder, x):
    squared = builder.elementwise("multiply", x, x)
    both = builder.elementwise("add", builder.elementwise("sqrt", squared), builder.elementwise("abs", squared))
    steps = steps_between(x, both)
    assert names(steps) == ["multiply", "sqrt", "abs", "add"]
    numbers = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    np.testing.assert_array_equal(computed(x, numbers, steps, both), numbers + numbers**2)


def test_constants_may_go_in_but_nothing_else(builder, x):
    assert names(steps_between(x, builder.elementwise("add", x, 1.0))) == ["add"]
    for other in (builder.input((2, 3)), builder.weight((3,)), x.producer.inputs[0]):
        assert steps_between(x, builder.elementwise("add", x, other)) == []


def test_no_steps_lead_from_a_value_to_itself(x):
    assert steps_between(x, x) == []


def test_a_long_way_is_not_gone(builder, x):
    value = x
    for _ in range(100):
        value = builder.elementwise("negative", value)
    assert steps_between(x, value) == []


def test_operations_that_cannot_be_run_are_no_steps(builder, x):
    result = builder.elementwise("negative", x)
    result.producer.run = None
    assert steps_between(x, result) == []
    assert run_on(result.producer, [np.zeros(3)]) is None


def test_precision_is_that_of_the_numbers(builder, x):
    half = builder.elementwise("cast", x, run=lambda a: a.astype(np.float16))
    third = builder.elementwise("multiply", half, 1 / 3)
    numbers = np.full((2, 3), 1.000001)
    found = computed(x, numbers, steps_between(x, third), third)
    np.testing.assert_allclose(found, numbers * np.float32(1 / 3), rtol=1e-12)


def test_what_cannot_be_computed_is_none(builder, x):
    def fails(a):
        if not (a == np.exp(1)).all():
            raise RuntimeError("not for such numbers")
        return a

    value = builder.elementwise("custom", x, run=lambda a: a)
    value.producer.run = lambda arrays: [fails(*arrays)]
    assert computed(x, np.zeros((2, 3)), steps_between(x, value), value) is None


def test_numbers_of_constants(builder):
    assert numbers_of(builder.constant(0.5)).dtype == np.float64
    assert numbers_of(builder.constant([1, 2], "int32")).dtype == np.int32
    assert np.isnan(numbers_of(Value((), "float32")))
