"""Writes the colour tables of the TensorBoard tab.

Run ``python docs/make_colormaps.py > keras_gradcam/tensorboard_plugin/static/colormaps.js``.
"""

from __future__ import annotations

import base64

from keras_gradcam.drawing.colormaps import color_table

#: The colour maps that the page offers.
NAMES = ("inferno", "viridis", "magma", "jet", "gray")


def javascript() -> str:
    """Returns the text of ``static/colormaps.js``: the tables of the renderer, 256 colours each."""
    lines = [
        "// @ts-check",
        "// Made by `python docs/make_colormaps.py`; a test holds it to keras_gradcam.drawing.colormaps.color_table.",
        "",
        "/** 256 colours each, red, green and blue bytes, base64. @type {Record<string, string>} */",
        "export const COLORMAPS = {",
    ]
    for name in NAMES:
        text = base64.b64encode(color_table(name).tobytes()).decode()
        pieces = [text[begin : begin + 112] for begin in range(0, len(text), 112)]
        lines.append(f"  {name}:")
        lines += [f'    "{piece}" +' for piece in pieces[:-1]] + [f'    "{pieces[-1]}",']
    return "\n".join([*lines, "};", ""])


if __name__ == "__main__":
    print(javascript(), end="")
