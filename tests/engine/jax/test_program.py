"""Programs of JAX: what is traced and compiled, and when."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from contract import ask, plain_cam, run, spec_of
from keras import layers as L  # noqa: N812
from models import CLASSES, SIZE, images, named
from oracles import assert_close

from keras_gradcam.engine.jax.program import JaxProgram


class Traced(L.Layer):
    count = 0

    def call(self, inputs):
        Traced.count += 1
        return inputs


@pytest.fixture
def program():
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(4, 3, activation="relu", name="conv2")(Traced()(inputs))
    model = keras.Model(inputs, L.Dense(CLASSES, name="dense")(L.GlobalAveragePooling2D()(x)))
    request = ask(1, cams={"plain": plain_cam}, guided_backprop=True)
    Traced.count = 0
    program = JaxProgram(model, spec_of(images()), [request])
    return program, request, model


def test_a_batch_size_is_traced_once(program):
    program, request, model = program
    for seed in range(4):
        run(program, images(seed=seed), request)
    first = Traced.count
    named(model, "dense").kernel.assign(np.ones((4, CLASSES)))
    for seed in range(10):
        run(program, images(seed=seed), request)
    assert Traced.count == first == 2  # for one sample, to find out what there is, and for three
    run(program, images(2), request)
    assert Traced.count == 3


def test_changed_weights_are_used(program):
    program, request, model = program
    before = run(program, images(), request)
    kernel = named(model, "dense").kernel
    kernel.assign(2 * np.asarray(kernel))
    after = run(program, images(), request)
    assert_close(after.guided_backprop, 2 * before.guided_backprop)


def test_results_are_arrays_of_their_own(program):
    program, request, _ = program
    result = run(program, images(), request)
    for array in (result.predictions, result.scores, result.guided_backprop, result.cams["plain"]):
        array += 1
