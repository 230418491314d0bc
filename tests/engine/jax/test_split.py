"""Models cut in two in JAX."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from contract import ClassScore, ask, spec_of
from keras import layers as L  # noqa: N812
from models import ClassToken, convnet, images, randomised
from oracles import assert_close
from threads import Count

from keras_gradcam.engine.jax.split import JaxSplit


def split_of(model, layer, pictures):
    return JaxSplit(model, spec_of(pictures), ask(ClassScore(0), layer=layer))


def test_tokens_stay_tokens_and_their_grid_is_said():
    inputs = keras.Input((8, 4, 3))
    tokens = ClassToken(name="tokens")(L.Reshape((32, 3))(inputs))
    model = randomised(keras.Model(inputs, L.Dense(5, name="dense")(tokens[:, 0] + tokens[:, 7])))
    split = split_of(model, "tokens", images(2, (8, 4)))
    features, embedding = split.body([images(2, (8, 4))])
    assert (features.shape, split.layout.grid) == ((2, 33, 3), (8, 4))
    assert_close(embedding, model.get_layer("dense")(features[:, 0] + features[:, 7]))
    np.testing.assert_allclose(split.head(features), embedding, rtol=1e-5)


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_float16", 0.01), ("mixed_bfloat16", 0.05)])
def test_half_precision_comes_as_float32(policy, tolerance):
    keras.config.set_dtype_policy(policy)
    model = convnet(activation="relu", dense={"activation": None})
    keras.config.set_dtype_policy("float32")
    twin = convnet(activation="relu", dense={"activation": None})
    features, embedding = split_of(model, "conv2", images()).body([images()])
    expected, of_twin = split_of(twin, "conv2", images()).body([images()])
    assert features.dtype == embedding.dtype == np.float32
    assert_close(features, expected, tolerance)
    assert_close(embedding, of_twin, tolerance)
    assert split_of(model, "conv2", images()).head(features).dtype == np.float32


def test_head_takes_any_number_of_rows_and_the_current_weights():
    model = convnet(activation="relu", dense={"activation": None})
    split = split_of(model, "conv2", images())
    features, embedding = split.body([images()])
    assert_close(split.head(np.concatenate([features, features[:2]])), np.concatenate([embedding, embedding[:2]]))
    kernel = model.get_layer("dense").kernel
    kernel.assign(np.zeros(kernel.shape))
    np.testing.assert_allclose(split.head(features), np.tile(model.get_layer("dense").bias, (3, 1)), rtol=1e-6)


def test_assignments_of_the_model_do_not_run():
    inputs = keras.Input((12, 10, 3))
    count = Count(name="count")
    x = L.Conv2D(4, 3, name="conv")(count(inputs))
    model = keras.Model(inputs, L.GlobalAveragePooling2D()(x))
    split = split_of(model, "conv", images())
    split.head(split.body([images()])[0])
    assert float(count.count.value) == 0


def test_layer_that_changes_the_batch_is_refused():
    inputs = keras.Input((12, 10, 3))
    x = L.Lambda(lambda x: keras.ops.reshape(x, (-1, 6, 10, 3)), output_shape=(6, 10, 3), name="halves")(inputs)
    model = keras.Model(inputs, L.Lambda(lambda x: keras.ops.reshape(x, (-1, 360)), output_shape=(360,))(x))
    split = split_of(model, "halves", images())
    with pytest.raises(ValueError, match=r"`layer` must give one map per sample.*'halves', which gives 6 for 3"):
        split.body([images()])
