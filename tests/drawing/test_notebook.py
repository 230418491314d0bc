"""Panels in a notebook, as a figure and as HTML."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from keras_gradcam.drawing import notebook
from keras_gradcam.drawing.canvas import Canvas

RNG = np.random.default_rng(0)
PANELS = [RNG.integers(0, 256, (height, 40, 3), dtype=np.uint8) for height in (30, 50)]


def test_a_figure_holds_the_panels_one_below_the_other_pixel_by_pixel():
    figure = notebook.figure(PANELS)
    assert [axes.images[0].get_array().tolist() for axes in figure.axes] == [panel.tolist() for panel in PANELS]
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    with Image.open(buffer) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.concatenate(PANELS))


def test_html_holds_the_panels_and_the_note_as_text():
    text = notebook.html(PANELS, "<script>alert(1)</script>")
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    for picture, panel in zip(pictures, PANELS, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            np.testing.assert_array_equal(np.asarray(image), panel)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_words_show_themselves_as_markdown():
    text = notebook.Markdown("# report")
    assert text == text._repr_markdown_() == "# report"
    assert type(text._repr_markdown_()) is str


def test_a_bar_within_a_cell_does_not_end_it():
    assert notebook.table(["a"], [["b|c"]]) == "| a |\n|---|\n| b\\|c |"


def test_pictures_show_themselves_and_other_arrays_do_not():
    pictures = np.stack([PANELS[0], PANELS[0][::-1]]).view(notebook.Pictures)
    assert pictures._repr_html_().count("<img ") == 2
    assert pictures[0]._repr_html_().count("<img ") == 1
    assert Canvas(20, 30).picture()._repr_html_().count("<img ") == 1
    for other in (pictures[..., 0], pictures / 2, pictures[:0], pictures.mean(axis=(0, 1, 2))):
        assert not hasattr(other, "_repr_html_") or other._repr_html_() is None
