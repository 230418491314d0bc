"""The arithmetic of receptive fields: boxes as maxima, windows and lines, beside sets of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_gradcam.engine.boxes import (
    Line,
    Reach,
    Window,
    as_boxes,
    compacted,
    joined_lines,
    kept,
    mixed,
    pixels,
    scattered,
    summed,
    united,
    windowed,
)


def bounds(values, extent):
    """(first, last + 1) of what each cell along the last axis sees, or None, from rows (extent - first, last + 1)."""
    return [(extent - before, after) if after else None for before, after in values.T.tolist()]


def cells(extent):
    """Cells along an axis that each see their own pixel, in the two rows that an axis has in a reach."""
    return np.stack([extent - np.arange(extent), np.arange(extent) + 1])


def seen(sets):
    return [(min(pixels), max(pixels) + 1) if pixels else None for pixels in sets]


windows = st.builds(
    Window,
    size=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
)


@settings(deadline=None, max_examples=100)
@given(windows, st.integers(4, 12))
def test_windows_see_what_their_cells_see(window, extent):
    padded = [set()] * window.before + [{pixel} for pixel in range(extent)] + [set()] * window.after
    span = (window.size - 1) * window.dilation
    if span >= len(padded):
        return
    starts = range(0, len(padded) - span, window.stride)
    expected = [set().union(*padded[start : start + span + 1 : window.dilation]) for start in starts]
    assert bounds(windowed(cells(extent), -1, window), extent) == seen(expected)


@settings(deadline=None, max_examples=100)
@given(windows, st.integers(2, 6), st.integers(-2, 2))
def test_transposed_windows_give_what_their_cells_see(window, extent, more):
    size = max((extent - 1) * window.stride + (window.size - 1) * window.dilation + 1 - window.before + more, 1)
    expected = [set() for _ in range(size)]
    for cell in range(extent):
        for tap in range(window.size):
            target = cell * window.stride + tap * window.dilation - window.before
            if 0 <= target < size:
                expected[target].add(cell)
    assert bounds(scattered(cells(extent), -1, window, size), extent) == seen(expected)


@pytest.mark.parametrize(
    ("size", "stride", "dilation", "extent", "padding"),
    [(3, 1, 1, 10, (1, 1)), (3, 2, 1, 10, (0, 1)), (3, 2, 1, 9, (1, 1)), (4, 1, 1, 5, (1, 2)), (3, 1, 2, 8, (2, 2))],
)
def test_padding_same(size, stride, dilation, extent, padding):
    window = Window.same(size, stride, dilation, extent)
    assert (window.before, window.after) == padding
    assert windowed(cells(extent), -1, window).shape[-1] == -(-extent // stride)


def test_cells_that_see_a_choice_of_cells():
    sees = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    assert bounds(mixed(cells(4), -1, sees), 4) == [(0, 4), (1, 2), None]


@pytest.mark.parametrize("shape", [(1, 4, 6, 3), (1, 4, 6)])
def test_pixels_see_themselves(shape):
    reach = pixels(shape)
    assert reach.shape == shape
    boxes = as_boxes(reach.values, (4, 6))
    assert boxes.dtype == np.int32
    np.testing.assert_array_equal(boxes.reshape(4, 6, -1, 4)[2, 5, 0], [5, 2, 6, 3])
    assert [line and len(shape) + line.axis for line in reach.lines] == [1, 2]
    assert not reach.sees_all((4, 6))


def test_box_around_nothing():
    np.testing.assert_array_equal(as_boxes(np.zeros((4, 2), int), (5, 5)), np.zeros((2, 4)))


def test_axes_on_which_nothing_changes_take_no_memory():
    values = np.broadcast_to(pixels((1, 4, 6, 1)).values.copy(), (4, 1, 4, 6, 8)).copy()
    small = compacted(values)
    np.testing.assert_array_equal(small, values)
    assert small.strides[-1] == 0
    assert kept(small).shape == (4, 1, 4, 6, 1)
    assert compacted(values[:, :, :0]).shape == (4, 1, 0, 6, 8)


def test_elements_united_in_position():
    reach = pixels((1, 4, 6, 2))
    row = Reach(reach.values.max(axis=3, keepdims=True))
    both = united([reach, row], (1, 4, 6, 2))
    np.testing.assert_array_equal(as_boxes(both.values, (4, 6))[0, 1, 2, 0], [0, 1, 6, 2])
    assert both.lines == (None, None)
    assert united([reach], (1, 4, 6, 2)).lines == reach.lines


def test_gates_are_one_box_for_all_cells():
    reach = pixels((1, 4, 6, 2))
    gate = Reach(compacted(reach.values.max(axis=(2, 3), keepdims=True)))
    assert gate.sees_all((4, 6))
    assert gate.is_gate_of(reach, (1, 4, 6, 2))
    assert not reach.is_gate_of(gate, (1, 4, 6, 2))
    assert not reach.is_gate_of(reach, (1, 4, 6, 2))


@settings(deadline=None, max_examples=100)
@given(windows, st.integers(0, 3), st.integers(1, 3), st.integers(1, 4))
def test_lines_follow_the_fields_of_cells(window, first, stride, size):
    line = Line(-2, stride, first, size)
    after = line.through(window)

    def field(line, cell):
        start = line.first + line.stride * cell
        return start, start + line.size

    for cell in range(3):
        taps = [cell * window.stride + tap * window.dilation - window.before for tap in range(window.size)]
        fields = [field(line, tap) for tap in taps]
        assert field(after, cell) == (min(first for first, _ in fields), max(last for _, last in fields))
    assert [field(line.cut(2, 3), cell) for cell in range(3)] == [field(line, 2 + 3 * cell) for cell in range(3)]


def test_lines_that_meet():
    narrow, wide = Line(-3, 2, 1, 3), Line(-3, 2, -1, 4)
    assert narrow.joined(wide) == Line(-3, 2, -1, 5)
    assert narrow.joined(Line(-3, 1, 1, 3)) is None
    assert narrow.joined(Line(-2, 2, 1, 3)) is None
    values = np.zeros((4, 1, 4, 6, 2), np.int32)
    reaches = [Reach(values, (narrow, None)), Reach(values, (wide, narrow))]
    assert joined_lines(reaches, (1, 4, 6, 2)) == (Line(-3, 2, -1, 5), None)


def test_lines_of_folded_cells():
    folded = Line(-3, held=("folded", (1, 4, 6), -3))
    assert folded.cut(1) is None
    assert folded.through(Window(3)) is None


def test_factor_of_a_sum_of_products():
    values = np.arange(4 * 2 * 3, dtype=np.int32).reshape(4, 2, 3)
    np.testing.assert_array_equal(summed(values, "ab", "bc"), values.max(axis=1)[:, :, None])
    np.testing.assert_array_equal(summed(values, "ab", "ba"), values.transpose(0, 2, 1))
