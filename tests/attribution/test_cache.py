"""What was compiled is kept while the model stays the same, and no more than the latest few."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from models import CLASSES, SIZE, convnet, images
from oracles import assert_close

from keras_gradcam import Explainer
from keras_gradcam.attribution.cache import CompiledCache
from keras_gradcam.attribution.inputs import input_spec_of
from keras_gradcam.engine import current_engine


@pytest.fixture
def model():
    return convnet(dense={"activation": None})


def test_functions_made_anew_for_every_call_do_not_pile_up_graphs(model):
    explainer = Explainer(model, methods="gradcam")
    expected = explainer.predict(images())
    for position in range(9):
        actual = explainer(images(), lambda outputs, position=position: outputs[:, position % CLASSES])
        assert_close(actual.scores, expected[:, position % CLASSES])
    assert len(explainer.runner.cache) <= 8


def test_what_was_compiled_is_dropped_with_the_weights_it_read(model):
    cache, made = CompiledCache(model, current_engine()), []
    spec = input_spec_of(images(1, SIZE))
    for _ in range(2):
        assert cache.get(spec, "one", lambda: made.append("one") or len(made)) == 1
    assert cache.get(spec, "two", lambda: made.append("two") or len(made)) == 2
    model.layers[1].kernel.assign(np.zeros(model.layers[1].kernel.shape))
    assert cache.get(spec, "one", lambda: made.append("again")) == 1
    model.layers[1].activation = lambda x: x
    assert cache.get(spec, "one", lambda: made.append("anew") or len(made)) == 3
    assert len(cache) == 1


def test_other_shapes_and_dtypes_are_compiled_apart(model):
    cache = CompiledCache(model, current_engine())
    for pictures in (images(1, SIZE), images(2, SIZE), images(1, SIZE).astype("float16"), images(1, (20, 20))):
        cache.get(input_spec_of(pictures), "key", list)
    assert len(cache) == 3


def test_a_copy_compiles_for_itself(model):
    cache = CompiledCache(model, current_engine())
    cache.get(input_spec_of(images(1, SIZE)), "key", list)
    assert len(copy.copy(cache)) == 0
    assert len(cache) == 1
