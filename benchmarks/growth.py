"""Whether anything grows over many calls and over many epochs: memory, objects, compiled functions, hooks.

    python benchmarks/growth.py [--times 100] [--backend jax]

Printed is what is there after each tenth of the calls, or epochs, the first tenth left out, in which all that is kept
is built. A training without the callback stands beside the one with it, since Keras and its backend keep some, too.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_gradcam.engine import BACKENDS, use_backend

PAGE = 4096


class Compiled:
    """Counts what the backend has compiled or traced; PyTorch compiles nothing, and its hooks are counted."""

    def __init__(self) -> None:
        self.events = 0

    def watch(self, model: Any) -> None:
        import keras

        self._backend, self._model = keras.config.backend(), model
        if self._backend == "jax":
            import jax

            jax.monitoring.register_event_duration_secs_listener(self._note)

    def _note(self, event: str, seconds: float, **_: Any) -> None:
        self.events += event == "/jax/core/compile/backend_compile_duration"

    def __call__(self) -> int:
        if self._backend == "torch":
            return hooks_of(self._model)
        if self._backend == "jax":
            return self.events
        from tensorflow.python.eager import context

        return len(context.context().list_function_names())


def hooks_of(model: Any) -> int:
    """Returns how many hooks a model's modules and its weights have in PyTorch, and the global ones."""
    from torch.nn.modules import module as modules

    owners = [vars(one) for one in model.modules()] + [vars(modules)]
    return sum(len(value) for owner in owners for name, value in owner.items() if "hooks" in name and value)


def state(compiled: Compiled) -> tuple[float, int, int]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * PAGE / 1e6, len(gc.get_objects()), compiled()


def report(title: str, states: list[tuple[float, int, int]]) -> None:
    print(f"\n{title}")
    for name, values in zip(("MB", "objects", "compiled functions or hooks"), zip(*states, strict=True), strict=True):
        print(f"  {name:28}" + "".join(f"{value:9.0f}" for value in values), flush=True)


def network(size: int) -> Any:
    import keras

    layers = [keras.layers.Conv2D(16, 3, activation="relu", padding="same", strides=1 + (i == 1)) for i in range(3)]
    head = [keras.layers.BatchNormalization(), keras.layers.GlobalAveragePooling2D(), keras.layers.Dropout(0.3)]
    last = keras.layers.Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input((size, size, 3)), *layers, *head, last])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def over_calls(explain: Callable[[], object], times: int, compiled: Compiled) -> list[tuple[float, int, int]]:
    states = []
    for number in range(1, times + 1):
        explain()
        if number % (times // 10) == 0:
            states.append(state(compiled))
    return states


def over_epochs(size: int, times: int, with_callback: bool) -> list[tuple[float, int, int]]:
    import keras

    from keras_gradcam import GuidedGradCAMCallback

    keras.utils.set_random_seed(0)
    model, compiled, states = network(size), Compiled(), []
    compiled.watch(model)
    pictures = np.random.default_rng(0).random((64, size, size, 3), dtype=np.float32)
    labels = np.arange(64) % 10

    def note(epoch: int, logs: Any = None) -> None:
        if (epoch + 1) % (times // 10) == 0:
            states.append(state(compiled))

    callbacks: list[keras.callbacks.Callback] = [keras.callbacks.LambdaCallback(on_epoch_end=note)]
    with tempfile.TemporaryDirectory() as folder:
        if with_callback:
            callbacks.insert(0, GuidedGradCAMCallback((pictures[:8], labels[:8]), folder))
        model.fit(pictures, labels, batch_size=16, epochs=times, verbose=0, callbacks=callbacks)
    return states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--backend", choices=BACKENDS, help="by default what KERAS_BACKEND says, or TensorFlow")
    options = parser.parse_args()
    if options.backend:
        use_backend(options.backend)
    import keras

    from keras_gradcam import Explainer

    model = network(options.size)
    pictures = np.random.default_rng(0).random((8, options.size, options.size, 3), dtype=np.float32)
    compiled = Compiled()
    compiled.watch(model)
    explainer = Explainer(model)
    backend = keras.config.backend()
    report(f"{backend}, {options.times} calls", over_calls(lambda: explainer(pictures), options.times, compiled))
    for with_callback in (False, True):
        title = f"{backend}, {options.times} epochs {'with' if with_callback else 'without'} the callback"
        report(title, over_epochs(options.size, options.times, with_callback))


if __name__ == "__main__":
    main()
