"""Checks the smallest network of every family of keras.applications beside plain tapes, and watches a training of it.

    python benchmarks/applications.py

Takes about ten minutes on two cores. For each family: the layer that is chosen, the largest relative error of Grad-CAM
and of saliency against a GradientTape over two halves of the model, and the seconds that explaining (the trace
included) and one watched epoch of training take. Weights are random. Prints a table in Markdown.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from keras_gradcam import Class, Explainer, GuidedGradCAMCallback

# Family -> its smallest network, and a side of pictures of which the last feature map has 2 x 2 cells or more.
FAMILIES = {
    "VGG": ("VGG16", 64),
    "ResNet": ("ResNet50", 64),
    "ResNetV2": ("ResNet50V2", 64),
    "Inception": ("InceptionV3", 139),
    "Inception-ResNet": ("InceptionResNetV2", 139),
    "Xception": ("Xception", 96),
    "MobileNet": ("MobileNet", 64),
    "MobileNetV2": ("MobileNetV2", 64),
    "MobileNetV3": ("MobileNetV3Small", 64),
    "DenseNet": ("DenseNet121", 64),
    "NASNet": ("NASNetMobile", 96),
    "EfficientNet": ("EfficientNetB0", 64),
    "EfficientNetV2": ("EfficientNetV2B0", 64),
    "ConvNeXt": ("ConvNeXtTiny", 64),
}


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def tape_results(model: keras.Model, layer: str, pictures: np.ndarray, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns Grad-CAM and saliency of ``sign`` times the score of class 1 by tapes."""
    both = keras.Model(model.inputs, [model.get_layer(layer).output, model.output])
    inputs = tf.constant(pictures)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        features, scores = both(inputs, training=False)
        score = sign * tf.reduce_sum(scores[:, 1])
    gradient, of_input = tape.gradient(score, features).numpy(), tape.gradient(score, inputs).numpy()
    weights = gradient.mean(axis=(1, 2), keepdims=True)
    return np.maximum((weights * features.numpy()).sum(axis=-1), 0), np.abs(of_input).max(axis=-1)


def row_of(family: str) -> str:
    name, side = FAMILIES[family]
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(side, side, 3), classes=4, classifier_activation=None
    )
    pictures = 255 * np.random.default_rng(0).random((2, side, side, 3), dtype=np.float32)
    start = time.perf_counter()
    # With random weights the map of a score may be zero everywhere, which would prove nothing; then that of minus it.
    sign = 1
    explanation = Explainer(model, target=Class(1), methods=["gradcam", "saliency"])(pictures)
    seconds = time.perf_counter() - start
    if not explanation.gradcam.any(axis=(1, 2)).all():
        sign = -1
        explanation = Explainer(model, target=-Class(1), methods=["gradcam", "saliency"])(pictures)
    gradcam, saliency = tape_results(model, explanation.layer, pictures, sign)
    errors = relative_error(explanation.gradcam, gradcam), relative_error(explanation.maps["saliency"], saliency)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callback = GuidedGradCAMCallback((pictures, [0, 1]), tempfile.mkdtemp(), methods="gradcam", on_error="raise")
    start = time.perf_counter()
    model.fit(pictures, np.array([0, 1]), epochs=1, verbose=0, callbacks=[callback])
    trained = time.perf_counter() - start
    assert callback.history.maps.shape[:2] == (1, 2)
    grid = " x ".join(map(str, explanation.gradcam.shape[1:]))
    return (
        f"| {family} | {name}, {side} x {side} | {explanation.layer}, {grid} | {errors[0]:.0e} | {errors[1]:.0e} "
        f"| {seconds:.1f} | {trained:.0f} |"
    )


def main() -> None:
    print("| family | network, pictures | layer, cells | error of Grad-CAM | of saliency | explain, s | fit, s |")
    print("|---|---|---|---|---|---|---|")
    for family in sys.argv[1:] or FAMILIES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            print(row_of(family), flush=True)
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
