"""Whether two versions of the package compute the same: maps, scores, drift and rankings of three networks.

    python benchmarks/compare_maps.py OTHER_CHECKOUT [--tolerance 1e-6]

Each version computes in a process of its own, from the same seeds. Printed is, for each array, the largest difference
as a share of the largest value; the exit code is 1 if one of them exceeds the tolerance.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

NETWORKS = {"MobileNetV2": (96, 96, 3), "ResNet50V2": (96, 64, 3), "DenseNet121": (64, 96, 3)}
METHODS = (
    *("gradcam", "gradcam_plus_plus", "hirescam", "xgradcam", "layercam", "guided_backprop", "guided_gradcam"),
    *("saliency", "input_x_gradient", "smoothgrad", "integrated_gradients"),
)


def compute(path: str) -> None:
    """Computes everything with the package that this process imports."""
    import keras

    from keras_gradcam import Explainer, Similarity
    from keras_gradcam.reid import rank, similarity_maps

    arrays: dict[str, np.ndarray] = {}
    for name, shape in NETWORKS.items():
        keras.utils.set_random_seed(0)
        model = getattr(keras.applications, name)(weights=None, input_shape=shape, classes=10)
        images = np.random.default_rng(1).uniform(-1, 1, (8, *shape)).astype(np.float32)
        result = Explainer(model, target=np.arange(8), methods=METHODS)(images)
        arrays.update({f"{name}/{method}": result.maps[method] for method in METHODS})
        arrays[f"{name}/scores"], arrays[f"{name}/heatmap"] = result.scores, result.heatmap
        embedding = keras.Model(model.input, model.layers[-2].output)
        pairs = Explainer(embedding, target=Similarity(images[::-1].copy()), methods=["gradcam"])(images)
        arrays[f"{name}/similarity"], arrays[f"{name}/similarity_gradcam"] = pairs.scores, pairs.gradcam
        exact = similarity_maps(embedding, images[:4], images[4:])
        arrays[f"{name}/map_a"], arrays[f"{name}/map_b"] = exact.map_a, exact.map_b
        identities = np.arange(8) % 4
        ranking = rank((images[:4], identities[:4]), (images[4:], identities[4:]), embedding)
        arrays[f"{name}/cmc"], arrays[f"{name}/mean_ap"] = ranking.cmc, np.array(ranking.mean_ap)
    arrays |= trained()
    np.savez(path, **arrays)


def trained() -> dict[str, np.ndarray]:
    """Maps and drift that the callback logs while a small network learns, and the network's weights."""
    import keras

    from keras_gradcam import GuidedGradCAMCallback

    keras.utils.set_random_seed(0)
    images, labels = np.random.default_rng(2).random((64, 24, 20, 3), dtype=np.float32), np.arange(64) % 3
    model = keras.Sequential(
        [
            keras.Input((24, 20, 3)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with tempfile.TemporaryDirectory() as folder:
        callback = GuidedGradCAMCallback((images, labels), folder)
        model.fit(images, labels, epochs=4, verbose=0, callbacks=[callback])
    history = callback.history
    arrays = {f"training/{name}": values for name, values in history.numbers.items()}
    weights = {f"training/weights_{index}": np.asarray(weight) for index, weight in enumerate(model.get_weights())}
    return {**arrays, **weights, "training/maps": np.asarray(history.maps)}


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference as a share of the largest value; infinite where the arrays do not match at all."""
    if one.shape != other.shape or (np.isnan(one) != np.isnan(other)).any():
        return float("inf")
    one, other = np.nan_to_num(one.astype(np.float64)), np.nan_to_num(other.astype(np.float64))
    return float(np.abs(one - other).max(initial=0) / max(np.abs(one).max(initial=0), 1e-30))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-6)
    parser.add_argument("--compute", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compute:
        compute(options.compute)
        return 0
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, checkout in (("this", Path(__file__).parents[1]), ("other", options.other)):
            path = str(Path(folder) / f"{name}.npz")
            command = [sys.executable, __file__, str(checkout), "--compute", path]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(checkout)})
            with np.load(path) as stored:
                found.append({key: stored[key] for key in stored.files})
    this, other = found
    renamed = sorted(set(this) ^ set(other))
    worst = {key: difference(other[key], this[key]) for key in this if key in other}
    for key, value in worst.items():
        print(f"{key:<40}{value:12.2e}")
    print(f"\n{len(worst)} arrays, largest difference {max(worst.values()):.2e}; in one version only: {renamed}")
    return int(max(worst.values()) > options.tolerance)


if __name__ == "__main__":
    sys.exit(main())
