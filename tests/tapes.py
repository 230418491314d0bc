"""Grad-CAM of a model beside that of a plain tape which starts at the feature map."""

from __future__ import annotations

import keras
import numpy as np
from oracles import assert_close, plain_gradcam, upsample_by_hand


def check_gradcam(result, features, head, pictures, tolerance=1e-5):
    """Scores, map and heatmap of ``result`` equal those of ``head(features(pictures))``."""
    expected = plain_gradcam(features, head, pictures)
    assert_close(result.scores, expected.scores, tolerance)
    assert_close(result.gradcam, expected.gradcam, tolerance)
    assert_close(result.heatmap, upsample_by_hand(expected.gradcam, result.heatmap.shape[1:]), tolerance)


def predictions(model, inputs):
    """What ``model.predict`` returns, without the time that it takes to compile."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(inputs, training=False))


def mean(x):
    return keras.ops.mean(x, axis=tuple(range(1, len(x.shape) - 1)))


def picked(scores, classes):
    """The score of one class per sample."""
    return keras.ops.sum(scores * keras.ops.one_hot(np.asarray(classes, "int32"), scores.shape[-1]), axis=-1)
