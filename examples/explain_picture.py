"""Explain pictures with a network trained right here: every question that can be asked of one.

A small network learns to tell four shapes on clutter, and then answers: what speaks for its class, what against, what
for one class rather than another; where the object is; what an earlier layer sees; what its first filters look like,
and what excites them; and whether its maps can be trusted. Needs no download and about a minute on two CPU cores:

    python examples/explain_picture.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from train_clever_hans import CLASSES, make_model, make_pictures

from keras_gradcam import Class, Explainer
from keras_gradcam.filters import filter_kernels, top_activations
from keras_gradcam.metrics import iou, localize, trust_report

NAMES = dict(enumerate(CLASSES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("logs/explain_picture"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)

    pictures, labels, _ = make_pictures(3000, 0.0, seed=1)
    model = make_model()
    model.fit(pictures, labels, epochs=options.epochs, batch_size=32, verbose=2)
    shown, truth, boxes = make_pictures(64, 0.0, seed=5)
    model.save(options.out / "model.keras")

    explainer = Explainer(model)
    result = explainer(shown[:8])
    result.save(options.out / "predicted", NAMES)
    print(f"\npredicted: {', '.join(CLASSES[one] for one in result.classes)}")
    print(f"truth:     {', '.join(CLASSES[one] for one in truth[:8])}")

    # One picture, other questions.
    second = explainer.top_classes(shown[:1], 2)[1]
    questions = {
        "second_guess": second,
        "against": explainer(shown[:1], target=-Class(int(truth[0]))),
        "rather_than_the_second": explainer(shown[:1], target=Class(int(truth[0])) - Class(int(second.classes[0]))),
        "layercam": Explainer(model, methods=["layercam", "saliency", "integrated_gradients"])(shown[:1]),
    }
    for name, one in questions.items():
        one.save(options.out / name, NAMES)
    layers = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    for path, one in explainer.at_layers(shown[:1], layers).items():
        one.save(options.out / f"layer_{path.replace('/', '_')}", NAMES)

    localization = localize(explainer(shown, target=truth))
    overlap = iou(localization.boxes, boxes)
    print(f"\nboxes found from the maps alone overlap the shapes with a mean IoU of {np.nanmean(overlap):.2f}")

    Image.fromarray(filter_kernels(model).draw()).save(options.out / "filters.png")
    Image.fromarray(top_activations(model, shown, layers[1], list(range(8)), top=6).draw()).save(
        options.out / "top_pictures.png"
    )
    print(f"\n{trust_report(explainer, shown, target=truth, regions=boxes)}")
    command = Path(sys.executable).with_name("keras-gradcam")
    print(f"\nSee {options.out}. The same from the command line:\n    {command} layers {options.out / 'model.keras'}")


if __name__ == "__main__":
    main()
