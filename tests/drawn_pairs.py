"""Frames of pairs, and what is faint in a drawing."""

from __future__ import annotations

import numpy as np

from keras_gradcam.drawing.canvas import FAINT, PAPER
from keras_gradcam.drawing.panels import Frame


def picture(height=30, width=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pair(height=64, width=32, partner=32, **options):
    other = Frame(picture(height, partner, 1), cams={"Grad-CAM": np.eye(2)}, vmax=1.0)
    return Frame(picture(height, width), cams={"Grad-CAM": np.eye(3)}, vmax=1.0, partner=other, **options)


def faint(drawn):
    """The columns in which something faint is written."""
    assert drawn.min() >= FAINT[0]
    return np.flatnonzero((drawn != PAPER).any(-1).any(0))
