"""Types of operations: TensorFlow knows them all, and none stands in two groups with different rules."""

from __future__ import annotations

import itertools

import tensorflow as tf

from keras_gradcam.engine.tensorflow import kinds

GROUPS = {name: group for name, group in vars(kinds).items() if name.isupper()}


def test_every_type_is_one_of_tensorflow():
    known = {"".join(part.capitalize() for part in name.split("_")).lower() for name in dir(tf.raw_ops)}
    for name, group in GROUPS.items():
        assert not {kind for kind in group if kind.lower() not in known}, name


def test_no_type_has_two_rules():
    for (one, first), (other, second) in itertools.combinations(GROUPS.items(), 2):
        assert not first & second, (one, other)
