"""Draws the picture of the README from the runs of examples/train_clever_hans.py.

python examples/train_clever_hans.py && python docs/make_pictures.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from keras_gradcam.render import Film, Frame, filmstrip

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from train_clever_hans import CLASSES, make_pictures

#: The probe and the epochs that are shown.
PROBE, EPOCHS = 15, (0, 1, 3, 6, 11)


def strip(run: Path, words: str, picture: np.ndarray, label: int) -> np.ndarray:
    """The probe over the run, the untrained model first."""
    with np.load(run / "run.npz") as stored:
        maps, epochs = stored["maps"][:, PROBE], stored["epochs"]
        similarity, start = stored["similarity_previous"][:, PROBE], stored["start_maps"][PROBE]
        predicted, confidence = stored["predicted"][:, PROBE].astype(int), stored["confidence"][:, PROBE]
    top = float(maps.max())
    frames = [Frame(picture), Frame(picture, gradcam=start.astype(np.float32), top=top)]
    captions = [(words, f"truth: {CLASSES[label]}"), ("before training", "")]
    line = [np.nan, np.nan]
    for epoch in EPOCHS:
        at = int(np.flatnonzero(epochs == epoch)[0])
        wrong = predicted[at] != label
        frames.append(Frame(picture, gradcam=maps[at].astype(np.float32), top=top, wrong=bool(wrong)))
        captions.append((f"after epoch {epoch + 1}", f"{CLASSES[predicted[at]]} {confidence[at]:.2f}"))
        line.append(float(similarity[at]))
    return filmstrip(Film(tuple(frames), tuple(captions), tuple(line)))


def main() -> None:
    """Writes docs/clever_hans.jpg."""
    logs = Path("logs/clever_hans") if len(sys.argv) < 2 else Path(sys.argv[1])
    pictures, labels, _ = make_pictures(16, 1.0, seed=2)
    picture = np.rint(pictures[PROBE] * 255).astype(np.uint8)
    strips = [
        strip(logs / run, words, picture, int(labels[PROBE]))
        for run, words in (("with_mark", "trained with the mark"), ("without_mark", "trained without"))
    ]
    image = Image.fromarray(np.vstack(strips))
    image = image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.LANCZOS)
    image.save(Path(__file__).parent / "clever_hans.jpg", quality=90, subsampling=0)


if __name__ == "__main__":
    main()
