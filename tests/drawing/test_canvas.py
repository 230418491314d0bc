"""Words that fit the paper."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keras_gradcam.drawing import canvas


@given(st.text(max_size=300), st.integers(20, 400))
def test_texts_fit_their_width(text, width):
    short = canvas.shortened(text, width)
    assert canvas._text_width(short) <= width or short == "…"
    assert len(short) <= len(text)


def test_a_shortened_text_keeps_both_ends():
    short = canvas.shortened("abcdefghij" * 20, 200)
    assert short.startswith("abcdef")
    assert short.endswith("efghij")
    assert "…" in short


def test_captions_flow_into_lines():
    assert canvas.flowed(["one", "two"], 500) == ["one    two"]
    assert canvas.flowed(["one", "two"], 40) == ["one", "two"]
    assert canvas.flowed([], 40) == []


def test_line_breaks_and_changes_of_direction_become_blanks():
    assert canvas.flowed(["cat\n", "\u202eabc"], 500) == ["cat      abc"]
