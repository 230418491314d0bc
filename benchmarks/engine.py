"""How fast the engine is, against the least that any tool must do.

    python benchmarks/engine.py [--models MobileNetV2 ResNet50 VGG16] [--batch 16] [--repeats 9] [--backend jax]

All figures of a model come from one run, its measurements interleaved, so that a busy machine slows all alike:
  forward     a bare forward pass, by the backend's own means: compiled, on PyTorch as it is
  limit       the same and one gradient with respect to the input
  all maps    Grad-CAM, guided backpropagation and guided Grad-CAM together
  Grad-CAM    Grad-CAM alone
and, on TensorFlow where it is installed, tf-keras-vis' Grad-CAM as a peer.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_gradcam.engine import BACKENDS, use_backend

AIMS = {"all maps / limit": 1.10, "Grad-CAM / forward": 1.25}


def bare_functions(model: Any, images: np.ndarray) -> dict[str, Callable[[], object]]:
    import keras

    return {"tensorflow": on_tensorflow, "jax": on_jax, "torch": on_torch}[keras.config.backend()](model, images)


def on_tensorflow(model: Any, images: np.ndarray) -> dict[str, Callable[[], object]]:
    import tensorflow as tf

    tensor = tf.constant(images)

    @tf.function
    def forward(x: tf.Tensor) -> tf.Tensor:
        return model(x, training=False)

    @tf.function
    def limit(x: tf.Tensor) -> tf.Tensor:
        return tf.gradients(model(x, training=False)[:, 0], x)[0]

    return {"forward": lambda: forward(tensor).numpy(), "limit": lambda: limit(tensor).numpy()}


def on_jax(model: Any, images: np.ndarray) -> dict[str, Callable[[], object]]:
    import jax

    def call(weights: Any, x: jax.Array) -> jax.Array:
        return model.stateless_call(*weights, x, training=False)[0]

    def weights() -> Any:
        return [[one.value for one in part] for part in (model.trainable_variables, model.non_trainable_variables)]

    forward, limit = jax.jit(call), jax.jit(jax.grad(lambda w, x: call(w, x)[:, 0].sum(), argnums=1))
    return {
        "forward": lambda: np.asarray(forward(weights(), images)),
        "limit": lambda: np.asarray(limit(weights(), images)),
    }


def on_torch(model: Any, images: np.ndarray) -> dict[str, Callable[[], object]]:
    import torch

    def forward() -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(images), training=False).cpu().numpy()

    def limit() -> np.ndarray:
        x = torch.tensor(images, requires_grad=True)
        (gradient,) = torch.autograd.grad(model(x, training=False)[:, 0].sum(), [x])
        return gradient.cpu().numpy()

    return {"forward": forward, "limit": limit}


def peer(model: Any, images: np.ndarray) -> dict[str, Callable[[], object]]:
    import keras

    if keras.config.backend() != "tensorflow":
        return {}
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
    parser.add_argument("--backend", choices=BACKENDS, help="by default what KERAS_BACKEND says, or TensorFlow")
    options = parser.parse_args()
    if options.backend:
        use_backend(options.backend)
    import keras

    from keras_gradcam import Explainer

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
        print(f"\n{name} on {keras.config.backend()}, batch {options.batch} of {options.size} x {options.size}")
        for method, seconds in times.items():
            print(f"  {method:<24}{seconds:8.3f} s")
        for ratio, aim in AIMS.items():
            numerator, denominator = ratio.split(" / ")
            print(f"  {ratio:<24}{times[numerator] / times[denominator]:8.2f}   aim <= {aim:.2f}")


if __name__ == "__main__":
    main()
