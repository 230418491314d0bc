"""What the callback adds to an epoch, split into compute, draw and write, and whether it grows.

    python benchmarks/callback.py [--model MobileNetV2] [--probes 16] [--size 224] [--epochs 10]

Compute is on the training thread; drawing and writing happen on a thread of their own and cost an epoch only what
they take from its cores. The last line compares the epoch end of the last epoch with that of the second.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from keras_gradcam import GuidedGradCAMCallback, Probe
from keras_gradcam.drawing.panels import overview, panel
from keras_gradcam.drawing.pixels import Style, encoded
from keras_gradcam.training.writers.base import LogEntry
from keras_gradcam.training.writers.tensorboard import TensorBoardWriter


class Timed(GuidedGradCAMCallback):
    """Notes how long each epoch end holds the training."""

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        began = time.perf_counter()
        super().on_epoch_end(epoch, logs)
        self.held.append(time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="MobileNetV2")
    parser.add_argument("--probes", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (options.probes, options.size, options.size, 3)).astype(np.float32)
    labels = np.arange(options.probes) % 10
    model = getattr(keras.applications, options.model)(weights=None, input_shape=images.shape[1:], classes=10)
    model.compile("sgd", "sparse_categorical_crossentropy")

    with tempfile.TemporaryDirectory() as log_dir:
        callback = Timed(Probe((images, labels), limit=options.probes), log_dir)
        callback.held = []
        entries: list[LogEntry] = []
        write = TensorBoardWriter.write
        written: list[float] = []

        def timed_write(writer: TensorBoardWriter, entry: LogEntry) -> None:
            began = time.perf_counter()
            write(writer, entry)
            written.append(time.perf_counter() - began)
            entries.append(entry)

        TensorBoardWriter.write = timed_write
        # Two batches an epoch, so that training leaves the writer no more room than a short epoch would.
        model.fit(images, labels, batch_size=max(options.probes // 2, 1), epochs=options.epochs, verbose=0,
                  callbacks=[callback])  # fmt: skip
        size = sum(path.stat().st_size for path in Path(log_dir).rglob("events*"))

    explainer = callback._explainer
    began = time.perf_counter()
    explainer(images)
    compute = time.perf_counter() - began
    began = time.perf_counter()
    style = Style()
    pictures = [panel(frame, style) for frame in entries[-1].frames] + [overview(entries[-1].frames, "", style)]
    draw = time.perf_counter() - began
    began = time.perf_counter()
    for picture in pictures:
        encoded(picture)
    encode = time.perf_counter() - began

    print(f"{options.model}, {options.probes} probes of {options.size} x {options.size}, {options.epochs} epochs")
    print(f"  compute (training thread)        {compute:8.3f} s")
    print(f"  draw (own thread)                {draw:8.3f} s")
    print(f"  encode PNG (own thread)          {encode:8.3f} s")
    print(f"  draw, encode and write, in place {np.median(written):8.3f} s")
    print(f"  epoch end holds the training     {np.median(callback.held):8.3f} s")
    print(f"  written per epoch                {size / (options.epochs + 1) / 1e6:8.2f} MB")
    print(f"  last epoch end / second          {callback.held[-1] / callback.held[1]:8.2f}")


if __name__ == "__main__":
    main()
