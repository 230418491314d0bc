"""What only TensorFlow's programs have to show: pictures of many sizes, which are open in its graph."""

from __future__ import annotations

import keras
from keras import layers as L  # noqa: N812
from models import CLASSES, images, logits, randomised
from tapes import check_gradcam, mean

from keras_gradcam import Explainer


def test_fully_convolutional_model_takes_pictures_of_any_size():
    inputs = keras.Input((None, None, 3))
    x = L.Conv2D(4, 3, activation="relu", name="conv1")(inputs)
    x = L.Conv2D(5, 3, strides=2, activation="relu", name="conv2")(x)
    model = randomised(keras.Model(inputs, L.Dense(CLASSES, name="dense")(L.GlobalAveragePooling2D()(x))))
    conv1, conv2, dense = (model.get_layer(name) for name in ("conv1", "conv2", "dense"))
    explainer = Explainer(model, target=1)
    for size in ((12, 10), (9, 15), (12, 10)):
        result = explainer(images(size=size))
        assert result.heatmap.shape == (3, *size)
        assert result.guided_backprop.shape == (3, *size, 3)
        check_gradcam(result, lambda x: conv2(conv1(x)), lambda a: logits(dense, mean(a))[:, 1], images(size=size))
