"""All maps in one compiled function: XLA merges the forward passes, and nothing is computed that nobody asked for."""

from __future__ import annotations

import functools
import re

import jax
import keras
import numpy as np
from contract import ask, plain_cam, spec_of
from keras import layers as L  # noqa: N812
from models import CLASSES, SIZE, convnet, images

from keras_gradcam.engine.jax.answers import answer_all
from keras_gradcam.engine.jax.program import JaxProgram


def convolutions(model, *requests):
    """How many convolutions XLA runs to answer requests."""
    program = JaxProgram(model, spec_of(images()), requests)
    arguments = [[np.zeros(3, "int32")] if request.target else [] for request in requests]
    variables, run = program._function(3, "answers", answer_all)
    scales = np.ones(2, "float32")
    lowered = run.lower([images()], [variable.value for variable in variables], arguments, scales)
    return len(re.findall(r" convolution\(", lowered.compile().as_text()))


def network():
    inputs = keras.Input((*SIZE, 3))
    x = inputs
    for position in range(3):
        x = L.Conv2D(4, 3, padding="same", activation="relu", name=f"conv{position}")(x)
    return keras.Model(inputs, L.Dense(CLASSES)(L.GlobalAveragePooling2D()(x)))


def test_forward_pass_is_shared_and_a_map_pays_for_no_input_gradient():
    model = network()
    assert convolutions(model, ask(0, layer="conv1", cams={"plain": plain_cam})) == 3 + 1
    assert convolutions(model, ask(0, gradient=True)) == 3 + 3
    assert convolutions(model, ask(0, layer="conv1", cams={"plain": plain_cam}, gradient=True)) == 3 + 3
    everything = ask(0, layer="conv1", cams={"plain": plain_cam}, guided_backprop=True)
    assert convolutions(model, everything) == 3 + 1 + 3
    assert convolutions(model, ask(layer="conv1", features=True)) == 2


def test_requests_for_one_class_each_share_the_forward_pass():
    requests = [ask(target, layer="conv1", cams={"plain": plain_cam}) for target in range(CLASSES)]
    assert convolutions(network(), *requests) == 3 + CLASSES


def test_weights_are_no_constants_of_what_is_compiled():
    model = convnet()
    program = JaxProgram(model, spec_of(images()), [ask(0)])
    variables, run = program._function(3, "answers", answer_all)
    assert isinstance(run, type(jax.jit(functools.partial(int))))
    closed = jax.make_jaxpr(run)(
        [images()], [variable.value for variable in variables], [[np.zeros(3, "int32")]], np.ones(2, "float32")
    )
    assert sum(np.size(constant) for constant in closed.consts) < 10
