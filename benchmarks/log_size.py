"""Bytes per probe and epoch: the tab's data, the image panels, and a grid as tf-explain's callback writes it.

    python benchmarks/log_size.py [--size 224] [--grid 7] [--probes 16] [--epochs 5]

tf-explain's callback writes one grid of overlays per epoch with `tf.summary.image`, a lossless PNG of all pictures at
their own size; the same grid is written here, so that the figure does not need the package.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from keras_gradcam.drawing.overlays import overlay
from keras_gradcam.drawing.panels import Frame
from keras_gradcam.drawing.pixels import displayed
from keras_gradcam.tensorboard_plugin import metadata
from keras_gradcam.tensorboard_plugin.metadata import ProbeInfo, RunInfo
from keras_gradcam.training.history import Recorder
from keras_gradcam.training.writers.base import LogEntry, Run
from keras_gradcam.training.writers.tensorboard import TensorBoardWriter


def bytes_by_tag(folder: str) -> dict[str, int]:
    sizes: dict[str, int] = defaultdict(int)
    for path in sorted(Path(folder).rglob("events*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                sizes[value.tag] += value.ByteSize()
    return sizes


def smooth_pictures(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Returns pictures that compress about as well as photographs: broad colours with a little noise."""
    coarse = rng.random((count, size // 16, size // 16, 3))
    fine = tf.image.resize(coarse, (size, size), method="bicubic").numpy()
    return displayed(np.clip(fine + rng.normal(0, 0.02, fine.shape), 0, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--grid", type=int, default=7)
    parser.add_argument("--probes", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    pictures = smooth_pictures(rng, options.probes, options.size)
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        writer = TensorBoardWriter(ours)
        writer.prepare(Run(RunInfo((options.size, options.size), (ProbeInfo(),) * options.probes), pictures))
        peer_writer = tf.summary.create_file_writer(theirs)
        recorder = Recorder()
        for epoch in range(options.epochs):
            maps = rng.random((options.probes, options.grid, options.grid)).astype(np.float32)
            guided = rng.normal(size=(options.probes, options.size, options.size, 3))
            record = recorder.add(epoch, maps, {"score": np.ones(options.probes)})
            frames = tuple(
                Frame(
                    picture,
                    ("a caption",),
                    ("short",),
                    gradcam,
                    gradients={"guided backprop": gradient, "guided Grad-CAM": gradient},
                    vmax=1.0,
                )
                for picture, gradcam, gradient in zip(pictures, maps, guided, strict=True)
            )
            entry = LogEntry(record, frames)
            writer.write_numbers(entry)
            writer.write(entry)
            overlays = [overlay(picture, gradcam) for picture, gradcam in zip(pictures, maps, strict=True)]
            side = int(np.ceil(np.sqrt(options.probes)))
            overlays += [np.zeros_like(overlays[0])] * (side * side - len(overlays))
            grid = np.vstack([np.hstack(overlays[row * side : (row + 1) * side]) for row in range(side)])
            with peer_writer.as_default(step=epoch):
                tf.summary.image("grid", grid[None])
        writer.close()
        peer_writer.close()
        sizes, peer = bytes_by_tag(ours), bytes_by_tag(theirs)["grid"]
    per = options.probes * options.epochs
    panels = sum(sizes[metadata.probe_tag(index)] for index in range(options.probes))
    rows = {
        "tab: maps": sizes[metadata.MAPS],
        "tab: numbers": sizes[metadata.NUMBERS],
        "tab: guided pictures": sizes[metadata.GUIDED],
        "image panels": panels,
        "overview": sizes[metadata.overview_tag()],
        "tf-explain's grid": peer,
    }
    print(f"bytes per probe and epoch, {options.probes} probes of {options.size} x {options.size}, "
          f"maps of {options.grid} x {options.grid}")  # fmt: skip
    for name, size in rows.items():
        print(f"  {name:<22}{size / per:12.0f}")
    print(f"  panel / maps          {panels / sizes[metadata.MAPS]:12.0f}   aim >= 100")


if __name__ == "__main__":
    main()
