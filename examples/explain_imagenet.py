"""Explain your own pictures with a network from keras.applications and its ImageNet weights (downloaded once).

    python examples/explain_imagenet.py panda.jpg cup.jpg

The same, without writing Python: ``keras-gradcam explain app:MobileNetV2 panda.jpg cup.jpg --labels imagenet``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import numpy as np

from keras_gradcam import Explainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--weights", default="imagenet", help="a file of weights, or none for random ones")
    parser.add_argument("--out", type=Path, default=Path("logs/explain_imagenet"))
    options = parser.parse_args()
    weights = None if options.weights == "none" else options.weights
    model = keras.applications.MobileNetV2(weights=weights)

    images = np.stack(
        [keras.utils.img_to_array(keras.utils.load_img(path, target_size=(224, 224))) for path in options.pictures]
    )
    explainer = Explainer(model)  # the score before the softmax is found by itself, the last feature map too
    best = explainer.top_classes(keras.applications.mobilenet_v2.preprocess_input(images.copy()), 3)
    names: dict[int, str] = {}
    if options.weights == "imagenet":
        rows = keras.applications.mobilenet_v2.decode_predictions(np.eye(1000), top=1)
        names = {number: row[0][1] for number, row in enumerate(rows)}
    for rank, explanation in enumerate(best, start=1):
        folder = explanation.save(options.out / f"rank_{rank}", names)
        print(f"rank {rank}: {[names.get(number, number) for number in explanation.classes.tolist()]}, see {folder}")


if __name__ == "__main__":
    main()
