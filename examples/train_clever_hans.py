"""Watch a network fall for a watermark, and one that cannot.

Pictures show one shape at a random place among clutter; the shape is the class. In 95 % of the training pictures of the
first run a small coloured mark in a corner gives the class away as well. The second run trains without marks. Both
are watched on the same held-out pictures, which carry marks: attention goes to the mark in the first run and to the
shape in the second, while both reach a high accuracy on their own kind of picture.

Needs no download and about a minute on two CPU cores:

    python examples/train_clever_hans.py
    tensorboard --logdir logs/clever_hans --samples_per_plugin images=1000
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageDraw

from keras_gradcam import Explainer, GuidedGradCAMCallback, Probe
from keras_gradcam.metrics import mass_inside

CLASSES = ["disc", "square", "triangle", "cross"]
SIZE = 64
# The mark: a small patch in the corner, one colour per class.
MARK_BOX = (2, 2, 12, 12)
MARK_COLORS = [(230, 60, 60), (60, 200, 80), (70, 110, 240), (235, 200, 40)]


def draw_shape(draw: ImageDraw.ImageDraw, kind: int, box: tuple[int, int, int, int], color: tuple[int, ...]) -> None:
    left, top, right, bottom = box
    middle, thick = ((left + right) // 2, (top + bottom) // 2), (right - left) // 3
    if kind == 0:
        draw.ellipse(box, fill=color)
    elif kind == 1:
        draw.rectangle(box, fill=color)
    elif kind == 2:
        draw.polygon([(left, bottom), (middle[0], top), (right, bottom)], fill=color)
    else:
        draw.rectangle((middle[0] - thick // 2, top, middle[0] + thick // 2, bottom), fill=color)
        draw.rectangle((left, middle[1] - thick // 2, right, middle[1] + thick // 2), fill=color)


def make_pictures(count: int, marked: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns pictures (count, 64, 64, 3) in 0..1, their classes, and the boxes (x0, y0, x1, y1) of their shapes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(CLASSES), size=count)
    pictures = np.empty((count, SIZE, SIZE, 3), np.float32)
    boxes = np.empty((count, 4), int)
    for number, label in enumerate(labels):
        image = Image.new("RGB", (SIZE, SIZE), tuple(int(value) for value in rng.integers(40, 110, 3)))
        draw = ImageDraw.Draw(image)
        for _ in range(16):
            start, offset = rng.integers(0, SIZE, 2), rng.integers(-14, 15, 2)
            color = tuple(int(value) for value in rng.integers(30, 200, 3))
            draw.line([*start.tolist(), *(start + offset).tolist()], fill=color, width=int(rng.integers(1, 3)))
        extent = int(rng.integers(15, 22))
        # Shapes stay clear of the corner with the mark, so that attention on one cannot be taken for the other.
        left, top = rng.integers(14, SIZE - extent - 1, 2)
        boxes[number] = left, top, left + extent + 1, top + extent + 1
        draw_shape(
            draw,
            label,
            (left, top, left + extent, top + extent),
            tuple(int(value) for value in rng.integers(90, 215, 3)),
        )
        if rng.random() < marked:
            draw.rectangle((2, 2, 11, 11), fill=MARK_COLORS[label])
        pictures[number] = np.asarray(image, np.float32) / 255
    noise = rng.normal(0, 0.05, pictures.shape)
    return np.clip(pictures + noise, 0, 1).astype(np.float32), labels, boxes


def make_model() -> keras.Model:
    layers = [keras.Input((SIZE, SIZE, 3)), keras.layers.Rescaling(2.0, offset=-1.0)]
    for filters in (16, 32, 64):
        layers.append(keras.layers.Conv2D(filters, 3, padding="same", activation="relu"))
        layers += [keras.layers.MaxPooling2D()] if filters < 64 else []
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(len(CLASSES), activation="softmax")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def widened(box: np.ndarray | tuple[int, ...]) -> tuple[int, ...]:
    """A box (x0, y0, x1, y1) and one cell of the map, 4 pixels, around it."""
    left, top, right, bottom = (int(bound) for bound in box)
    return max(left - 4, 0), max(top - 4, 0), min(right + 4, SIZE), min(bottom + 4, SIZE)


def shares(maps: np.ndarray, boxes: np.ndarray) -> tuple[float, float]:
    """Attention on the shape and on the mark, averaged over the pictures whose map is not zero."""
    on_shape = mass_inside(maps, [widened(box) for box in boxes], (SIZE, SIZE))
    on_mark = mass_inside(maps, [widened(MARK_BOX)] * len(maps), (SIZE, SIZE))
    return on_shape.mean, on_mark.mean


def train(name: str, marked: float, options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    keras.utils.set_random_seed(7)
    images, labels, _ = make_pictures(options.pictures, marked, seed=1)
    probe, truth, shapes = make_pictures(16, 1.0, seed=2)
    held_out, held_truth, boxes = make_pictures(200, 1.0, seed=3)
    plain, plain_truth, _ = make_pictures(200, 0.0, seed=3)
    model = make_model()
    explainer = Explainer(model, methods=["gradcam"])
    before = shares(explainer(held_out, target=held_truth).gradcam, boxes)
    callback = GuidedGradCAMCallback(
        Probe((probe, truth), regions=[widened(box) for box in shapes]),
        options.log_dir / name,
        class_names=CLASSES,
        save_dir=options.log_dir / name,
    )
    print(f"\n{name}: {marked:.0%} of {len(images)} training pictures carry the mark")
    began = time.perf_counter()
    progress = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: print(
            f"  epoch {epoch:2d}  accuracy {logs['accuracy']:.2f}  "
            f"attention on the shape {logs['gradcam_mass_inside']:.0%}"
        )
    )
    model.fit(images, labels, batch_size=32, epochs=options.epochs, verbose=0, callbacks=[callback, progress])
    after = shares(explainer(held_out, target=held_truth).gradcam, boxes)
    accuracy = [model.evaluate(x, y, verbose=0)[1] for x, y in ((held_out, held_truth), (plain, plain_truth))]
    seconds = time.perf_counter() - began
    print(f"{seconds:.0f} s; accuracy on marked pictures {accuracy[0]:.2f}, on unmarked {accuracy[1]:.2f}")
    return {"before": before, "after": after}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--pictures", type=int, default=1500, help="training pictures per run")
    parser.add_argument("--log-dir", type=Path, default=Path("logs/clever_hans"))
    options = parser.parse_args()
    if options.log_dir.exists():
        shutil.rmtree(options.log_dir)  # two timelines in one folder cannot be told apart
    results = {name: train(name, marked, options) for name, marked in (("with_mark", 0.95), ("without_mark", 0.0))}

    print("\nShare of Grad-CAM attention on 200 held-out marked pictures")
    print(f"{'run':<14}{'shape before':>14}{'after':>8}{'mark before':>14}{'after':>8}")
    for name, result in results.items():
        (shape_before, mark_before), (shape_after, mark_after) = result["before"], result["after"]
        print(f"{name:<14}{shape_before:>14.0%}{shape_after:>8.0%}{mark_before:>14.0%}{mark_after:>8.0%}")
    print("\nPictures (overview.png, filmstrips, animations) and raw maps:")
    for name in results:
        print(f"    {options.log_dir / name}")
    print(
        f"\nNow watch it happen:\n    {Path(sys.executable).with_name('tensorboard')} --logdir {options.log_dir} "
        "--samples_per_plugin images=1000\n"
        "Grad-CAM tab: choose both runs and drag the slider. With the mark, attention runs to the corner; without it,\n"
        "it settles on the shapes. Images tab: gradcam/overview and gradcam_summary say the same in pictures.\n"
        "Scalars: gradcam/mass_inside_mean is the share of attention on the shape, epoch by epoch."
    )


if __name__ == "__main__":
    main()
