"""What programs do alike: checks of scores and maps, loss scales, shapes for targets."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from contract import ClassScore, spec_of
from models import images

from keras_gradcam.engine import passes
from keras_gradcam.engine.base import LayerCall, Outputs
from keras_gradcam.engine.places import Layout, Lost
from keras_gradcam.errors import ArgumentError

LAYER = LayerCall("block/conv", "Conv2D", (None, 4, 4, 2))


def outputs(array):
    tensor = keras.ops.convert_to_tensor(array)
    return Outputs(tensor, tensor, "", tensor)


class Target(ClassScore):
    """Any function of the outputs as a target."""

    def __init__(self, function):
        super().__init__()
        self._function = function

    def scores(self, outputs, arguments):
        return self._function(outputs.predictions)


def test_models_of_one_batch_size_are_refused():
    inputs = keras.Input(batch_shape=(4, 8, 8, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    with pytest.raises(ValueError, match=r"`model` must take batches of any size.*batch size of 4"):
        passes.check_free_batch(model, spec_of(np.zeros((4, 8, 8, 3), "float32")))


def test_scores_are_one_float_per_sample():
    values = np.arange(6, dtype="float16").reshape(3, 2)
    scores = passes.scores_of(Target(lambda x: x[:, 1]), outputs(values), (), 3)
    assert keras.backend.standardize_dtype(scores.dtype) == "float32"
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(scores), [1, 3, 5])


@pytest.mark.parametrize("function", [lambda x: x, lambda x: x[0], lambda x: x[0, 0]])
def test_scores_of_another_shape_are_refused(function):
    with pytest.raises(ArgumentError, match="`target` must give one score per sample"):
        passes.scores_of(Target(function), outputs(np.zeros((3, 2), "float32")), (), 3)


def test_shapes_have_none_for_the_batch_and_none_stays_none():
    tensor = keras.ops.zeros((3, 4, 2))
    both = Outputs([tensor, None], [tensor, None], ["", ""], [tensor, None])
    shapes = passes.shapes_of(both)
    for structure in (shapes.predictions, shapes.logits, shapes.pre_normalization):
        assert structure[1] is None
        assert (structure[0].shape, structure[0].dtype) == ((None, 4, 2), "float32")


def test_a_map_for_each_sample():
    passes.check_batch(LAYER, 3, 3)
    passes.check_batch(None, 6, 3)
    with pytest.raises(ArgumentError, match=r"`layer` must give one map per sample.*gives 6 for 3"):
        passes.check_batch(LAYER, 6, 3)
    with pytest.raises(ArgumentError, match="gives 6 for 3"):
        passes.results_of(None, [{"features": np.zeros((6, 2))}], [LAYER], 3)
    (result,) = passes.results_of(1, [{"scores": np.ones(3)}], [None], 3)
    assert (result.predictions, result.cams) == (1, None)


@pytest.mark.parametrize("error", [passes.no_influence(LAYER), passes.passed_by(LAYER)])
def test_errors_name_the_layer(error):
    assert error.name == "layer"
    assert "'block/conv'" in str(error)


def test_error_of_an_input_without_gradient_names_its_dtype():
    assert "dtype int32" in str(passes.no_input_gradient("int32"))


def test_tokens_are_laid_on_their_grid():
    tokens = np.arange(14, dtype="float32").reshape(1, 7, 2)
    on_grid = passes.on_grid(keras.ops.convert_to_tensor(tokens), Layout((2, 3), Lost("for a test"), 1))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(on_grid), tokens[:, 1:].reshape(1, 2, 3, 2))
    maps = images(2)
    assert passes.on_grid(maps, Layout(maps.shape[1:3], Lost(""))) is maps


def test_loss_scales_go_down_until_nothing_overflows():
    tried = []

    def run(cams, gradients):
        tried.append((cams, gradients))
        values = [np.array([np.inf if scale > most else scale]) for scale, most in ((cams, 32), (gradients, 1))]
        return [{"cams": {"gradcam": values[0]}, "gradient": values[1]}]

    assert passes.in_loss_scales(run, half=True)[0]["gradient"] == [1]
    assert tried == [(1024, 1024), (32, 32), (32, 1)]
    tried.clear()
    passes.in_loss_scales(run, half=False)
    assert tried == [(1, 1)]


def test_what_overflows_under_every_scale_is_returned_as_it_is():
    answers = passes.in_loss_scales(lambda cams, gradients: [{"gradient": np.array([np.nan])}], half=True)
    assert np.isnan(answers[0]["gradient"]).all()


def test_half_precision_is_found_in_any_layer():
    inputs = keras.Input((4,))
    half = keras.layers.Dense(2, dtype="mixed_float16")(inputs)
    assert passes.computes_in_float16(keras.Model(inputs, half))
    assert not passes.computes_in_float16(keras.Model(inputs, keras.layers.Dense(2)(inputs)))


def test_structures_keep_none():
    assert passes.mapped(lambda leaf: leaf and leaf + 1, {"a": 1, "b": [None, 2]}) == {"a": 2, "b": [None, 3]}
