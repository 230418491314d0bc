"""The small network of `models` with its operations hidden in a ``tf.function``."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from keras import layers as L  # noqa: N812
from models import ConvnetByCall


class ConvnetByFunction(ConvnetByCall):
    """Its ``call`` is a ``tf.function``, which hides its operations in a graph of its own."""

    @tf.function
    def call(self, inputs):
        return self.dense(self.mean(self.rectify(self.conv2(self.rectify(self.conv1(inputs))))))


class ConvnetByAutograph(ConvnetByCall):
    """Its ``call`` is a ``tf.function`` that needs AutoGraph: Python's ``if`` on a tensor."""

    @tf.function
    def call(self, inputs):
        x = self.rectify(self.conv1(inputs))
        if tf.reduce_mean(inputs) > 1e6:
            x = x * 0.0
        return self.dense(self.mean(self.rectify(self.conv2(x))))


class BlockByFunction(L.Layer):
    """A layer whose ``call`` is a ``tf.function``."""

    def __init__(self, rectify: Callable, **options):
        super().__init__(**options)
        self.conv1 = L.Conv2D(4, 3, padding="same", name="conv1")
        self.conv2 = L.Conv2D(5, 3, strides=2, padding="same", name="conv2")
        self.rectify = rectify

    def build(self, shape):
        self.conv1.build(shape)
        self.conv2.build(self.conv1.compute_output_shape(shape))

    @tf.function
    def call(self, inputs):
        return self.rectify(self.conv2(self.rectify(self.conv1(inputs))))

    def compute_output_shape(self, shape):
        return self.conv2.compute_output_shape(self.conv1.compute_output_shape(shape))
