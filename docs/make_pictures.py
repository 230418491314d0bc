"""Draws the pictures of the README from the runs of two examples.

    python examples/train_clever_hans.py && python examples/inspect_reid.py && python docs/make_pictures.py

The second one is a screenshot and needs Chromium with its driver, and selenium (in the `dev` extra).
"""

from __future__ import annotations

import io
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

from keras_gradcam.drawing.filmstrips import Filmstrip, draw_filmstrip
from keras_gradcam.drawing.panels import Frame

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from train_clever_hans import CLASSES, make_pictures

HERE = Path(__file__).parent
#: The probe and the epochs that are shown.
PROBE, EPOCHS = 15, (0, 1, 3, 6, 11)
RUNS = {"with_mark": "trained with the mark", "without_mark": "trained without"}


def strip(run: Path, words: str, picture: np.ndarray, label: int) -> np.ndarray:
    """Draws the probe over the run, the untrained model first."""
    with np.load(run / "run.npz") as stored:
        maps, epochs = stored["maps"][:, PROBE], stored["epochs"]
        similarity, start = stored["similarity_previous"][:, PROBE], stored["start_maps"][PROBE]
        predicted, confidence = stored["predicted"][:, PROBE].astype(int), stored["confidence"][:, PROBE]
    vmax = float(maps.max())
    frames = [Frame(picture), Frame(picture, cams={"Grad-CAM": start.astype(np.float32)}, vmax=vmax)]
    captions = [(words, f"truth: {CLASSES[label]}"), ("before training", "")]
    line = [np.nan, np.nan]
    for epoch in EPOCHS:
        row = int(np.flatnonzero(epochs == epoch)[0])
        wrong = predicted[row] != label
        frames.append(Frame(picture, cams={"Grad-CAM": maps[row].astype(np.float32)}, vmax=vmax, wrong=bool(wrong)))
        captions.append((f"after epoch {epoch}", f"{CLASSES[predicted[row]]} {confidence[row]:.2f}"))
        line.append(float(similarity[row]))
    return draw_filmstrip(Filmstrip(tuple(frames), tuple(captions), tuple(line)))


def save(image: Image.Image, name: str, share: float) -> None:
    """Writes a picture at a share of its size."""
    size = (round(image.width * share), round(image.height * share))
    image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(HERE / name, quality=90, subsampling=0)


def screenshot(logs: Path, address: str) -> Image.Image:
    """Takes a picture of the tab at an address, in headless Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--port", "6017"]
    board = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1500,1080"):
        options.add_argument(flag)
    try:
        for _ in range(60):
            time.sleep(1)
            try:
                urllib.request.urlopen("http://127.0.0.1:6017/", timeout=1).close()
                break
            except OSError:
                continue
        with webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options) as browser:
            browser.get(f"http://127.0.0.1:6017/{address}")
            time.sleep(8)
            return Image.open(io.BytesIO(browser.get_screenshot_as_png()))
    finally:
        board.kill()


def reid(logs: Path) -> Image.Image:
    """Joins ranked lists of two queries in both networks, and a pair as the first network matches it."""
    lists = [Image.open(logs / run / "rank_list_own.png") for run in ("clean", "leaky")]
    halves = [image.crop((0, 0, image.width, image.height // 2)) for image in lists]
    pairs = Image.open(logs / "clean" / "pair.png")
    pairs = pairs.crop((0, 0, pairs.width, pairs.height // 2))
    shown = [*halves, pairs]
    drawn = Image.new("RGB", (sum(image.width for image in shown), max(image.height for image in shown)), "white")
    left = 0
    for image in shown:
        drawn.paste(image, (left, 0))
        left += image.width
    return drawn


def main() -> None:
    """Writes docs/clever_hans.jpg, docs/tab.jpg and docs/reid.jpg."""
    logs = Path("logs/clever_hans") if len(sys.argv) < 2 else Path(sys.argv[1])
    save(reid(Path("logs/reid") if len(sys.argv) < 3 else Path(sys.argv[2])), "reid.jpg", 2 / 3)
    pictures, labels, _ = make_pictures(16, 1.0, seed=2)
    picture = np.rint(pictures[PROBE] * 255).astype(np.uint8)
    strips = [strip(logs / run, words, picture, int(labels[PROBE])) for run, words in RUNS.items()]
    save(Image.fromarray(np.vstack(strips)), "clever_hans.jpg", 2 / 3)
    both = ",".join(f"{run}/gradcam" for run in RUNS)
    save(screenshot(logs, f"#gradcam&p.gradcam.runs={both}&p.gradcam.epoch={EPOCHS[-1]}"), "tab.jpg", 0.8)


if __name__ == "__main__":
    main()
