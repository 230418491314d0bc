"""Forward passes: recorded with one sample, watched with others, recorded anew where the model does otherwise."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from contract import ClassScore, ask, plain_cam, run, spec_of
from keras import layers as L  # noqa: N812
from models import CLASSES, SIZE, called, convnet, images, logits, named, randomised
from oracles import assert_close, input_gradient, plain_gradcam, rectifier

from keras_gradcam.engine.torch.engine import TorchEngine
from keras_gradcam.engine.torch.forward import Capture, Forward, samples_of

CPU = torch.device("cpu")


@pytest.fixture
def recordings(monkeypatch):
    """The numbers of samples with which models were recorded."""
    found = []
    original = Forward.recorded

    def recorded(self, inputs, change):
        found.append(len(inputs[0]))
        return original(self, inputs, change)

    monkeypatch.setattr(Forward, "recorded", recorded)
    return found


class Branches(keras.Model):
    """Rectifies bright pictures alone, which only the pictures tell."""

    def __init__(self):
        super().__init__()
        self.conv = L.Conv2D(4, 3, padding="same", name="conv")
        self.dense = L.Dense(CLASSES, name="dense")

    def call(self, inputs):
        x = self.conv(inputs)
        if float(keras.ops.convert_to_numpy(keras.ops.mean(inputs))) > 0:
            x = keras.ops.relu(x)
        return keras.ops.softmax(self.dense(keras.ops.mean(x, axis=(1, 2))))


def test_a_model_that_branches_is_recorded_anew(recordings):
    model = called(Branches())
    request = ask(2, layer="conv", cams={"plain": plain_cam}, guided_backprop=True)
    program = TorchEngine().trace(model, spec_of(images()), [request])
    dense, conv = model.dense, model.conv
    for pictures, rectify in ((images() + 1, rectifier().guided()), (images() - 2, lambda x: x), (images() + 1, None)):
        rectify = rectify or rectifier().guided()
        result = run(program, pictures, request)

        def score(x, rectify=rectify):
            features = keras.ops.conv(x, conv.kernel, 1, "same") + conv.bias
            return logits(dense, keras.ops.mean(rectify(features), (1, 2)))[:, 2]

        assert_close(result.guided_backprop, input_gradient(score, pictures))
        ordinary = rectifier().ordinary() if pictures.mean() > 0 else lambda x: x

        def head(a, rectify=ordinary):
            return logits(dense, keras.ops.mean(rectify(a), (1, 2)))[:, 2]

        expected = plain_gradcam(conv, head, pictures)
        assert_close(result.scores, expected.scores)
        assert_close(result.cams["plain"], expected.gradcam)
    assert recordings == [1, 2, 2]


def test_one_recording_serves_every_number_of_samples(recordings):
    model = convnet(lambda position: L.ReLU())
    request = ask(1, cams={"plain": plain_cam}, guided_backprop=True)
    program = TorchEngine().trace(model, spec_of(images()), [request])
    for samples in (1, 4, 2, 4):
        run(program, images(samples), request)
    assert recordings == [1]


def test_a_model_that_draws_lots_among_operations_is_refused():
    class Draws(L.Layer):
        count = 0

        def call(self, inputs):
            Draws.count += 1
            return inputs * 2.0 if Draws.count % 2 else keras.ops.relu(inputs) + 1.0 - 1.0

    inputs = keras.Input((*SIZE, 3))
    model = randomised(keras.Model(inputs, L.Dense(2, activation="softmax")(L.GlobalMaxPooling2D()(Draws()(inputs)))))
    request = ask(1, gradient=True, guided_backprop=True)
    program = TorchEngine().trace(model, spec_of(images()), [request])
    with pytest.raises(ValueError, match=r"`model` must run the same operations each time"):
        run(program, images(), request)


class Overwrites(keras.Model):
    """Goes on in place with what a layer has returned."""

    def __init__(self, write):
        super().__init__()
        self.first = L.Conv2D(4, 3, name="first")
        self.conv = L.Conv2D(4, 3, name="conv")
        self.dense = L.Dense(CLASSES, name="dense")
        self.write = write

    def call(self, inputs):
        x = self.conv(self.first(inputs))
        self.write(x)
        return self.dense(keras.ops.mean(x, axis=(1, 2)))


WRITES = {
    "all of it": lambda x: torch.nn.functional.relu_(x),
    "a part of it": lambda x: x[:, 2:5].mul_(3.0),
    "a part of it, turned": lambda x: x.permute(0, 3, 1, 2)[:, :2].clamp_(min=0),
}


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("name", WRITES)
def test_maps_are_those_of_what_the_layer_returned_not_of_what_was_made_of_it(name, gradient):
    model = called(Overwrites(WRITES[name]))
    request = ask(1, layer="conv", cams={"plain": plain_cam}, features=True, gradient=gradient)
    program = TorchEngine().trace(model, spec_of(images()), [request])
    result = run(program, images(), request)

    def head(a):
        x = a * 1
        WRITES[name](x)
        return logits(model.dense, keras.ops.mean(x, (1, 2)))[:, 1]

    expected = plain_gradcam(lambda x: model.conv(model.first(x)), head, images())
    assert_close(result.features, expected.activations)
    assert_close(result.cams["plain"], expected.gradcam)


def test_inputs_are_copied():
    class Overwritten(L.Layer):
        def call(self, inputs):
            return inputs.add_(1.0) if inputs.is_leaf and not inputs.requires_grad else inputs + 1.0

        def compute_output_shape(self, shape):
            return shape

    inputs = keras.Input((*SIZE, 3))
    model = randomised(keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(Overwritten()(inputs)))))
    pictures = images()
    program = TorchEngine().trace(model, spec_of(pictures), [ask(1)])
    for _ in range(2):
        run(program, pictures, ask(1))
    np.testing.assert_array_equal(pictures, images())


def test_explained_whole_numbers_become_floating_point_unless_the_model_takes_them():
    bytes_ = np.zeros((2, *SIZE, 3), "uint8")
    forward = Forward(convnet(), spec_of(bytes_), CPU)
    (tensor,) = forward.tensors([bytes_], by_input=True)
    assert (tensor.dtype, tensor.requires_grad) == (torch.float32, True)
    words = keras.Input((5,), dtype="int32")
    model = keras.Model(words, L.Embedding(9, 3)(words))
    (tensor,) = Forward(model, spec_of(np.zeros((2, 5), "int32")), CPU).tensors([np.zeros((2, 5), "int32")], True)
    assert (tensor.dtype, tensor.requires_grad) == (torch.int32, False)


def test_samples_have_the_shapes_and_dtypes_of_inputs():
    first, second = samples_of(spec_of([images(), np.ones((2, 3), "uint8")]), 4)
    assert (first.shape, first.dtype, second.shape, second.dtype) == ((4, *SIZE, 3), np.float32, (4, 3), np.uint8)
    assert first.std() > 0
    assert not second.any()


def test_a_pass_ends_when_all_is_captured():
    model = convnet()
    visited = []

    class Visits(L.Layer):
        def call(self, inputs):
            visited.append(1)
            return inputs

    model = keras.Model(model.input, Visits()(model.output))
    request = ask(layer="conv1", features=True)
    program = TorchEngine().trace(model, spec_of(images()), [request])
    visited.clear()
    run(program, images(), request)
    assert not visited
    with_scores = ask(1, layer="conv1", features=True)
    run(TorchEngine().trace(model, spec_of(images()), [with_scores]), images(), with_scores)
    assert visited


def test_a_layer_that_returns_what_it_was_given_is_differentiated_as_what_gave_it():
    """As in a graph: the gradient is that of the tensor, whichever layer has returned it."""
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(4, 3, name="conv")(inputs)
    y = L.Dropout(0.5, name="dropout")(x)
    model = randomised(keras.Model(inputs, L.Dense(2, name="dense")(L.GlobalAveragePooling2D()(L.Add()([x, y])))))
    results = []
    for layer in ("conv", "dropout"):
        for gradient in (False, True):
            request = ask(1, layer=layer, cams={"g": lambda a, g: keras.ops.sum(g, -1)}, gradient=gradient)
            results.append(run(TorchEngine().trace(model, spec_of(images()), [request]), images(), request).cams["g"])
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-6)
    kernel = keras.ops.convert_to_numpy(named(model, "dense").kernel)
    np.testing.assert_allclose(results[0], np.full((3, 10, 8), 2 * kernel[:, 1].sum() / 80), rtol=1e-5)


def test_what_is_captured_is_a_leaf_where_nothing_else_is_differentiated():
    model = convnet()
    forward = Forward(model, spec_of(images()), CPU)
    with forward.session():
        trace = forward.traced(samples_of(spec_of(images())), Capture(None))
        key = trace.first_with(trace.layer_outputs[1].output)
        _, capture = forward.run(forward.tensors(images()[None]), lambda: Capture({key: False}))
        assert capture.captured[key].edge.is_leaf
        _, capture = forward.run(forward.tensors(images()[None], by_input=True), lambda: Capture({key: False}))
        assert not capture.captured[key].features.is_leaf
    with forward.session(gradients=False):
        _, capture = forward.run(forward.tensors(images()[None]), lambda: Capture({key: False}, gradients=False))
        assert capture.captured[key].edge is None


class NoCheck(ClassScore):
    def check(self, outputs):
        pass


def test_scores_before_an_activation_and_a_move_have_the_shape_of_every_batch():
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(3, 3, strides=2, padding="same", name="conv")(inputs)
    x = L.UpSampling2D(2)(L.Softmax()(x))
    model = randomised(keras.Model(inputs, L.Reshape((120, 3))(x)))

    class Middle(NoCheck):
        def scores(self, outputs, arguments):
            return outputs.logits[:, 55, 1]

    request = ask(Middle(), layer="conv", features=True)
    program = TorchEngine().trace(model, spec_of(images()), [request])
    assert program.outputs.final_activations == "softmax"
    for samples in (1, 4):
        result = run(program, images(samples), request)
        np.testing.assert_allclose(result.scores, result.features[:, 2, 2, 1], rtol=1e-5)
