"""Models cut in two whose halves PyTorch runs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from contract import ClassScore, ask, spec_of
from keras import layers as L  # noqa: N812
from models import SIZE, images, randomised
from oracles import assert_close
from snapshots import unchanged
from torch import nn
from torch_models import channels_first

from keras_gradcam.engine.torch.engine import TorchEngine


class NoCheck(ClassScore):
    def check(self, outputs):
        pass


def cut(model, layer):
    return TorchEngine().split(model, spec_of(images()), ask(NoCheck(0), layer=layer))


def test_modules_of_pytorch_on_both_sides():
    model = channels_first(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    with unchanged(model):
        split = cut(model, "map")
        features, embedding = split.body([images()])
        other = split.head(features[[0, 1, 2, 0, 1]])
    assert_close(embedding, model.dense(features.mean(axis=(1, 2))))
    np.testing.assert_allclose(other, embedding[[0, 1, 2, 0, 1]], rtol=1e-5)
    with torch.no_grad():
        model.net.module[0].weight.mul_(2)
    assert not np.allclose(split.body([images()])[0], features)


def test_what_comes_before_the_layer_runs_on_one_sample_of_nothing():
    seen = []

    class Looks(L.Layer):
        def call(self, inputs):
            seen.append((len(inputs), float(keras.ops.convert_to_numpy(keras.ops.max(inputs)))))
            return inputs * 1.0

    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(4, 3, name="conv")(Looks()(inputs))
    model = randomised(keras.Model(inputs, L.Dense(6)(L.GlobalAveragePooling2D()(x))))
    split = cut(model, "conv")
    features, embedding = split.body([images(7)])
    seen.clear()
    np.testing.assert_allclose(split.head(features), embedding, rtol=1e-5)
    assert [samples for samples, _ in seen] == [1]


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_head_that_is_shaped_by_the_number_of_pictures_gets_as_many(rows):
    class LikeThePictures(L.Layer):
        def call(self, features, pictures):
            return keras.ops.reshape(features, (keras.ops.shape(pictures)[0], -1))

        def compute_output_shape(self, features_shape, pictures_shape):
            return (features_shape[0], int(np.prod(features_shape[1:])))

    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(2, 3, name="conv")(inputs)
    model = randomised(keras.Model(inputs, L.Dense(6, name="dense")(LikeThePictures()(x, inputs))))
    split = cut(model, "conv")
    features, embedding = split.body([images(rows)])
    np.testing.assert_allclose(split.head(features), embedding, rtol=1e-5)
    assert embedding.shape == (rows, 6)


def test_one_call_of_a_layer_that_is_called_twice():
    inputs = keras.Input((*SIZE, 3))
    conv = L.Conv2D(3, 3, padding="same", name="conv")
    model = randomised(keras.Model(inputs, L.GlobalAveragePooling2D()(conv(conv(inputs)))))
    for call, rest in ((0, lambda x: keras.ops.mean(conv(x), (1, 2))), (1, lambda x: keras.ops.mean(x, (1, 2)))):
        target = NoCheck(0)
        request = ask(target, layer="conv")
        request = type(request)(target, request.arguments, lambda outputs, call=call: _nth(outputs, call))
        split = TorchEngine().split(model, spec_of(images()), request)
        assert split.layer.call == call
        features, embedding = split.body([images()])
        assert_close(embedding, rest(keras.ops.convert_to_tensor(features)))
        np.testing.assert_allclose(split.head(features), embedding, rtol=1e-5)


def _nth(outputs, call):
    return [output for output in outputs if output.info.path == "conv"][call]


def test_halves_take_no_gradients():
    model = channels_first(nn.Conv2d(3, 4, 3))
    split = cut(model, "map")
    features, _ = split.body([images()])
    split.head(features)
    assert all(parameter.grad is None for parameter in model.net.module.parameters())


def test_errors_of_the_head_are_the_models_own():
    split = cut(channels_first(nn.Conv2d(3, 4, 3)), "map")
    with pytest.raises(Exception, match=r"shape|size|dimension|incompatible"):
        split.head(np.zeros((2, 4), "float32"))
