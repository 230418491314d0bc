"""What the callback adds to an epoch: processor time of maps, drawing, encoding and writing, and bytes.

    python benchmarks/callback.py [--case tiny] [--repeats 3]

Each part is measured by itself, in processor time of all threads, and so is the way before: every panel drawn by
itself, and everything stored as PNG. The pictures compress about as well as photographs. The last line compares how
long the callback holds the training at its last epoch and at its second.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from log_size import smooth_pictures

from keras_gradcam import GuidedGradCAMCallback, Probe
from keras_gradcam.attribution.methods.names import TITLES
from keras_gradcam.drawing.panels import cell, overview, panel
from keras_gradcam.drawing.pixels import Style, encoded, no_larger_than_a_cell, relief
from keras_gradcam.training.writers.base import LogEntry
from keras_gradcam.training.writers.tensorboard import QUALITY, TensorBoardWriter

# Name: (model of keras.applications or "", probes, size).
CASES = {
    "tiny": ("", 32, 64),
    "cifar": ("", 16, 32),
    "mobilenet": ("MobileNetV2", 16, 224),
    "resnet": ("ResNet50", 16, 224),
}


class Timed(GuidedGradCAMCallback):
    """Notes how long each epoch end holds the training, and keeps what the writers are given."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.held: list[float] = []
        self.entries: list[LogEntry] = []
        super().__init__(*arguments, writers=[self], **options)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        began = time.perf_counter()
        super().on_epoch_end(epoch, logs)
        self.held.append(time.perf_counter() - began)

    def prepare(self, run: Any) -> None:
        self.run = run

    def write(self, entry: LogEntry) -> None:
        self.entries.append(entry)

    def summarize(self, summary: Any) -> None:
        pass


def network(name: str, size: int) -> keras.Model:
    if name:
        return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
    layers = [keras.layers.Conv2D(16, 3, activation="relu", padding="same", strides=1 + (i == 1)) for i in range(3)]
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10, activation="softmax")]
    return keras.Sequential([keras.Input((size, size, 3)), *layers, *head])


def processor_time(action: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Returns the least processor time of all repetitions, in seconds, and the last result."""
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        result = action()
        spent.append(time.process_time() - began)
    return min(spent), result


def drawn_now(entry: LogEntry) -> list[np.ndarray]:
    style = Style()
    cells = [cell(frame, style) for frame in entry.frames]
    panels = [panel(frame, style, drawn) for frame, drawn in zip(entry.frames, cells, strict=True)]
    return [overview(entry.frames, entry.record.title, style, cells), *panels, *guided(entry)]


def drawn_before(entry: LogEntry) -> list[np.ndarray]:
    style = Style()
    return [overview(entry.frames, entry.record.title, style), *(panel(frame, style) for frame in entry.frames),
            *guided(entry)]  # fmt: skip


def guided(entry: LogEntry) -> list[np.ndarray]:
    """Draws the guided pictures of the Grad-CAM tab."""
    title = TITLES["guided_gradcam"]
    return [no_larger_than_a_cell(relief(frame.gradients[title])[None])[0] for frame in entry.frames]


def measure(case: str, repeats: int) -> None:
    name, probes, size = CASES[case]
    keras.utils.set_random_seed(0)
    images = smooth_pictures(np.random.default_rng(0), probes, size).astype(np.float32) / 127.5 - 1
    labels = np.arange(probes) % 10
    model = network(name, size)
    model.compile("sgd", "sparse_categorical_crossentropy")
    with tempfile.TemporaryDirectory() as log_dir:
        callback = Timed(Probe((images, labels), limit=probes), log_dir)
        model.fit(images, labels, batch_size=probes, epochs=4, verbose=0, callbacks=[callback])
    entry = callback.entries[-1]
    maps, _ = processor_time(lambda: callback._monitor.measure(1), repeats)
    draw, pictures = processor_time(lambda: drawn_now(entry), repeats)
    draw_before, _ = processor_time(lambda: drawn_before(entry), repeats)
    encode, contents = processor_time(lambda: [encoded(picture, QUALITY) for picture in pictures], repeats)
    encode_before, contents_before = processor_time(lambda: [encoded(picture) for picture in pictures], repeats)
    with tempfile.TemporaryDirectory() as log_dir:
        writer = TensorBoardWriter(log_dir)
        writer.prepare(callback.run)
        writer.write_numbers(entry)
        writer.write(entry)
        first = sum(path.stat().st_size for path in Path(log_dir).iterdir())
        everything, _ = processor_time(lambda: (writer.write_numbers(entry), writer.write(entry)), repeats)
        writer.close()
        stored = (sum(path.stat().st_size for path in Path(log_dir).iterdir()) - first) / repeats
    write = max(everything - draw - encode, 0.0)
    before = draw_before + encode_before + write
    stored_before = stored + sum(map(len, contents_before)) - sum(map(len, contents))
    print(f"\n{case}: {name or 'three convolutions'}, {probes} probes of {size} x {size}, an epoch")
    print(f"  {'':22}{'now':>10}{'before':>10}   processor time, s")
    print(f"  {'maps':22}{maps:10.3f}{maps:10.3f}")
    for part, now, old in (
        ("drawing", draw, draw_before),
        ("encoding", encode, encode_before),
        ("writing", write, write),
    ):
        print(f"  {part:22}{now:10.3f}{old:10.3f}")
    print(f"  {'the three':22}{everything:10.3f}{before:10.3f}   now / before {everything / before:.2f}")
    print(f"  {'the three / maps':22}{everything / maps:10.2f}{before / maps:10.2f}")
    print(f"  {'MB written':22}{stored / 1e6:10.2f}{stored_before / 1e6:10.2f}")
    print(f"  epoch end holds the training {np.median(callback.held):.3f} s; last / second "
          f"{callback.held[-1] / callback.held[1]:.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="by default all")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    for case in options.case or CASES:
        measure(case, options.repeats)


if __name__ == "__main__":
    main()
