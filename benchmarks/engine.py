"""How fast the engine is, against the least that any tool must do.

    python benchmarks/engine.py [--models MobileNetV2 ResNet50 VGG16] [--batch 16] [--repeats 9]

All figures of a model come from one run, its measurements interleaved, so that a busy machine slows all alike:
  forward     a bare compiled forward pass
  limit       a bare compiled forward pass and one gradient with respect to the input
  all maps    Grad-CAM, guided backpropagation and guided Grad-CAM together
  Grad-CAM    Grad-CAM alone
and, where it is installed, tf-keras-vis' Grad-CAM as a peer.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_gradcam import Explainer

AIMS = {"all maps / limit": 1.10, "Grad-CAM / forward": 1.25}


def bare_functions(model: keras.Model, images: np.ndarray) -> dict[str, Callable[[], object]]:
    tensor = tf.constant(images)

    @tf.function
    def forward(x: tf.Tensor) -> tf.Tensor:
        return model(x, training=False)

    @tf.function
    def limit(x: tf.Tensor) -> tf.Tensor:
        return tf.gradients(model(x, training=False)[:, 0], x)[0]

    return {"forward": lambda: forward(tensor).numpy(), "limit": lambda: limit(tensor).numpy()}


def peer(model: keras.Model, images: np.ndarray) -> dict[str, Callable[[], object]]:
    try:
        from tf_keras_vis.gradcam import Gradcam
    except Exception:
        return {}
    gradcam = Gradcam(model, clone=False)
    return {"tf-keras-vis Grad-CAM": lambda: gradcam(lambda output: output[:, 0], images)}


def measure(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()  # compile
    for _ in range(repeats):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - began)
    # The smallest is the one that was disturbed least.
    return {name: min(values) if repeats > 1 else statistics.mean(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["MobileNetV2", "ResNet50", "VGG16"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    images = np.random.default_rng(0).uniform(-1, 1, (options.batch, options.size, options.size, 3)).astype(np.float32)
    for name in options.models:
        keras.utils.set_random_seed(0)
        model = getattr(keras.applications, name)(weights=None, input_shape=images.shape[1:])
        everything = Explainer(model, target=0, batch_size=options.batch)
        gradcam = Explainer(model, target=0, methods=["gradcam"], batch_size=options.batch)
        times = measure(
            {
                **bare_functions(model, images),
                "all maps": lambda explainer=everything: explainer(images),
                "Grad-CAM": lambda explainer=gradcam: explainer(images),
                **peer(model, images),
            },
            options.repeats,
        )
        print(f"\n{name}, batch {options.batch} of {options.size} x {options.size}")
        for method, seconds in times.items():
            print(f"  {method:<24}{seconds:8.3f} s")
        for ratio, aim in AIMS.items():
            numerator, denominator = ratio.split(" / ")
            print(f"  {ratio:<24}{times[numerator] / times[denominator]:8.2f}   aim <= {aim:.2f}")


if __name__ == "__main__":
    main()
