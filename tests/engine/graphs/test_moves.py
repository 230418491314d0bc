"""What moves elements, beside changing every pixel in turn; the lines that are read off it."""

from __future__ import annotations

import numpy as np
import pytest
from fields import changed_boxes
from graph_layers import Layers, loud

from keras_gradcam.engine.boxes import Window, as_boxes
from keras_gradcam.engine.graphs.moves import (
    gathered,
    joined_axis,
    moved_line,
    moved_numbers,
    moved_reaches,
    permutation,
    sources,
)
from keras_gradcam.engine.graphs.receptive_field import ReachReader

SHAPE = (6, 5, 2)
ALL = slice(None)


def reach_of(function, shape=SHAPE):
    """Returns what a function of a graph and its picture sees, and the function on pictures."""
    layers = Layers()
    picture = layers.input((1, *shape))
    result = function(layers, picture)
    reach = ReachReader("layer", gates=True).read(layers.graph, picture, result)
    return reach, lambda pictures: np.concatenate(
        [layers.computed({picture: one[None].astype(float)})(result) for one in pictures]
    )


def conv(g, x, stride=1):
    return g.conv(x, 2, {1: Window(3, stride, 1, 1, 1), 2: Window(3, stride, 1, 1, 1)})


def gather(g, x, indices, axis):
    indices = g.constant(indices, "int32")
    return g.move("gather", x, indices, run=lambda x, indices: np.take(x, indices, axis))


def replaced(x, part):
    x = x.copy()
    x[:, 1:3] = part
    return x


#: What moves, and the lines after it as (axis, stride, first, size).
CASES = {
    "transpose": (lambda g, x: g.transpose(x, 0, 2, 1, 3), [(-2, 1, 0, 1), (-3, 1, 0, 1)]),
    "transpose by another name": (
        lambda g, x: g.move("swap", x, run=lambda x: x.transpose(0, 2, 1, 3)),
        [(-2, 1, 0, 1), (-3, 1, 0, 1)],
    ),
    "pad": (lambda g, x: g.pad(x, (0, 0), (1, 0), (0, 2), (0, 0)), [(-3, 1, -1, 1), (-2, 1, 0, 1)]),
    "pad of channels": (lambda g, x: g.pad(x, (0, 0), (0, 0), (0, 0), (1, 0)), [(-3, 1, 0, 1), (-2, 1, 0, 1)]),
    "pad after a convolution": (
        lambda g, x: g.pad(conv(g, x, 2), (0, 0), (2, 1), (0, 0), (0, 0)),
        [(-3, 2, -5, 3), (-2, 2, -1, 3)],
    ),
    "reflected": (
        lambda g, x: g.pad(x, (0, 0), (1, 5), (0, 3), (0, 0), mode="reflect"),
        [(-3, 1, -1, 1), (-2, 1, 0, 1)],
    ),
    "edges repeated": (
        lambda g, x: g.pad(conv(g, x), (0, 0), (0, 1), (2, 2), (0, 0), mode="edge"),
        [(-3, 1, -1, 3), (-2, 1, -3, 3)],
    ),
    "reflected by parts": (
        lambda g, x: g.concatenate(
            g.move("rev", g.index(x, ALL, slice(1, 3)), run=lambda x: x[:, ::-1]), x, g.index(x, ALL, [4]), axis=1
        ),
        [(-3, 1, -2, 1), (-2, 1, 0, 1)],
    ),
    "interior padding": (
        lambda g, x: g.move("pad", x, run=lambda x: np.insert(x, range(1, 6), 0, axis=1)),
        [None, (-2, 1, 0, 1)],
    ),
    "slice": (lambda g, x: g.index(x, ALL, slice(1, 4), slice(2, None), slice(0, 1)), [(-3, 1, 1, 1), (-2, 1, 2, 1)]),
    "every other": (lambda g, x: g.index(x, ALL, slice(1, None, 2), ALL, 1), [(-2, 2, 1, 1), (-1, 1, 0, 1)]),
    "backwards": (lambda g, x: g.index(x, ALL, slice(4, 0, -2), None, ..., 1), [None, (-1, 1, 0, 1)]),
    "one row": (lambda g, x: g.index(x, ALL, slice(4, 5)), [(-3, 1, 4, 1), (-2, 1, 0, 1)]),
    "one row, padded": (
        lambda g, x: g.pad(g.index(x, ALL, slice(4, 5)), (0, 0), (2, 1), (0, 0), (0, 0)),
        [(-3, 1, 2, 1), (-2, 1, 0, 1)],
    ),
    "one row without its axis": (lambda g, x: g.index(x, ALL, 4), [None, (-2, 1, 0, 1)]),
    "flip and roll": (
        lambda g, x: g.move("roll", x, run=lambda x: np.roll(x[:, ::-1], 2, 2)),
        [None, None],
    ),
    "rolled by one": (lambda g, x: g.move("roll", x, run=lambda x: np.roll(x, 1, 1)), [None, (-2, 1, 0, 1)]),
    "wrapped around": (
        lambda g, x: g.pad(x, (0, 0), (1, 1), (0, 0), (0, 0), mode="wrap"),
        [(-3, 1, -1, 1), (-2, 1, 0, 1)],
    ),
    "tile": (lambda g, x: g.move("tile", x, run=lambda x: np.tile(x, (1, 1, 2, 1))), [(-3, 1, 0, 1), None]),
    "repeat": (lambda g, x: g.repeat(x, 2), [None, None]),
    "broadcast": (
        lambda g, x: g.move("broadcast", x, run=lambda x: np.broadcast_to(x[..., None], (1, *SHAPE, 3))[..., 0, :]),
        [(-3, 1, 0, 1), (-2, 1, 0, 1)],
    ),
    "broadcast of one row": (
        lambda g, x: g.move("broadcast", g.index(x, ALL, [3]), run=lambda x: np.broadcast_to(x, (1, *SHAPE))),
        [None, (-2, 1, 0, 1)],
    ),
    "channels joined": (
        lambda g, x: g.concatenate(x, conv(g, x), g.constant(loud(1, *SHAPE))),
        [(-3, 1, -1, 3), (-2, 1, -1, 3)],
    ),
    "channels joined of other strides": (
        lambda g, x: g.concatenate(g.index(x, ALL, slice(0, 3), slice(0, 3)), conv(g, x, 2)),
        [None, None],
    ),
    "channels joined with what lies on no line": (
        lambda g, x: g.concatenate(x, g.index(x, ALL, slice(None, None, -1))),
        [None, (-2, 1, 0, 1)],
    ),
    "rows joined": (
        lambda g, x: g.concatenate(g.index(x, ALL, slice(0, 2)), g.index(x, ALL, slice(2, 6)), axis=1),
        [(-3, 1, 0, 1), (-2, 1, 0, 1)],
    ),
    "mirrored beside itself": (
        lambda g, x: g.concatenate(g.index(x, ALL, slice(None, None, -1)), x, axis=1),
        [None, (-2, 1, 0, 1)],
    ),
    "padded by joining": (
        lambda g, x: g.concatenate(g.constant(loud(1, 2, 5, 2)), x, axis=1),
        [(-3, 1, -2, 1), (-2, 1, 0, 1)],
    ),
    "joined with nothing": (
        lambda g, x: g.concatenate(g.index(x, ALL, slice(0, 0)), x, axis=1),
        [(-3, 1, 0, 1), (-2, 1, 0, 1)],
    ),
    "channels joined with none": (
        lambda g, x: g.concatenate(g.index(x, ..., slice(0, 0)), x),
        [(-3, 1, 0, 1), (-2, 1, 0, 1)],
    ),
    "stack": (
        lambda g, x: g.move(
            "stack",
            g.index(x, ALL, ALL, ALL, 0),
            g.index(x, ALL, ALL, ALL, 1),
            run=lambda *arrays: np.stack(arrays, 2),
            moved=(0, 1),
        ),
        [(-3, 1, 0, 1), (-1, 1, 0, 1)],
    ),
    "gather": (lambda g, x: gather(g, x, [4, 0, 0], 1), [None, (-2, 1, 0, 1)]),
    "gather of a part": (lambda g, x: gather(g, x, [1, 3, 5], 1), [(-3, 2, 1, 1), (-2, 1, 0, 1)]),
    "space to depth": (
        lambda g, x: g.move(
            "space_to_depth",
            g.index(x, ALL, ALL, slice(0, 4)),
            run=lambda x: x.reshape(1, 3, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(1, 3, 2, 8),
        ),
        [None, None],
    ),
    "update": (
        lambda g, x: g.move("update", x, g.index(x, ALL, slice(3, 5)), run=replaced, moved=(0, 1)),
        [None, (-2, 1, 0, 1)],
    ),
}


@pytest.mark.parametrize(("function", "lines"), CASES.values(), ids=CASES)
def test_move(function, lines):
    reach, on_pictures = reach_of(function)
    np.testing.assert_array_equal(as_boxes(reach.values, SHAPE[:2])[0], changed_boxes(on_pictures, SHAPE))
    assert [line and (line.axis, line.stride, line.first, line.size) for line in reach.lines] == lines


def test_nothing_is_moved():
    layers = Layers()
    x = layers.input((1, *SHAPE))
    empty = layers.index(x, ALL, slice(0, 0))
    turned = layers.transpose(empty, 0, 2, 1, 3)
    reach = ReachReader("layer", gates=True).read(layers.graph, x, turned)
    assert reach.shape == (1, 5, 0, 2)
    assert moved_reaches(turned.producer, [reach]) == [None]


def test_several_results():
    layers = Layers()
    x = layers.input((1, *SHAPE))
    parts = layers.move("split", x, run=lambda x: np.split(x, [1, 5], axis=1))
    for part, first, cells in zip(parts, (0, 1, 5), (1, 4, 1), strict=True):
        reach = ReachReader("layer", gates=True).read(layers.graph, x, part)
        assert reach.shape == (1, cells, 5, 2)
        np.testing.assert_array_equal(as_boxes(reach.values, SHAPE[:2])[0, 0, 2, 0], [2, first, 3, first + 1])
        assert reach.lines[0].first == first


def test_lines_of_what_sees_everything_are_kept():
    wide = {1: Window(13, 1, 1, 6, 6), 2: Window(11, 1, 1, 5, 5)}
    reach, _ = reach_of(lambda g, x: g.pad(g.conv(x, 2, wide), (0, 0), (2, 0), (0, 0), (0, 0)))
    assert [(line.axis, line.first, line.size) for line in reach.lines] == [(-3, -8, 13), (-2, -5, 11)]


def test_lines_of_one_row_survive_transpositions():
    def turned(g, x):
        return g.transpose(g.pad(g.transpose(x, 0, 3, 1, 2), *[(0, 0)] * 3, (1, 1)), 0, 2, 3, 1)

    reach, _ = reach_of(turned, (1, 5, 2))
    assert [(line.axis, line.first) for line in reach.lines] == [(-3, 0), (-2, -1)]


def test_order_of_transposed_axes():
    layers = Layers()
    x = layers.input((1, 4, 4, 2))
    assert permutation(layers.transpose(x, 0, 3, 1, 2).producer) == (0, 3, 1, 2)
    assert permutation(layers.index(x, ALL, ALL, ALL).producer) is None
    assert permutation(layers.move("transpose", x, run=lambda x: x.transpose(0, 2, 1, 3)[..., :1]).producer) is None


def test_axis_along_which_tensors_are_joined():
    layers = Layers()
    x, y, empty = layers.input((1, 4, 4, 2)), layers.input((1, 4, 4, 3)), layers.input((0,))
    assert joined_axis(layers.concatenate(x, y).producer) == 3
    assert joined_axis(layers.concatenate(x, x, axis=1).producer) == 1
    assert joined_axis(layers.index(x, ALL).producer) is None
    legacy = layers.move("concatenate", empty, x, x, run=lambda *arrays: np.concatenate(arrays[1:], 2), moved=(0, 1, 2))
    assert joined_axis(legacy.producer) == 2
    part = layers.move("concatenate", x, y, run=lambda x, _: np.concatenate([x, x], 1), moved=(0,))
    assert joined_axis(part.producer) is None
    other = layers.move("concatenate", x, x, run=lambda x, y: np.stack([x, y]), moved=(0, 1))
    assert joined_axis(other.producer) is None


def test_numbers_and_sources_of_elements():
    layers = Layers()
    x, y = layers.input((2, 2)), layers.input((1, 2))
    joined = layers.move("joined", x, y, run=lambda *arrays: np.pad(np.concatenate(arrays), 1), moved=(0, 1)).producer
    (numbers,) = moved_numbers(joined)
    np.testing.assert_array_equal(numbers, [[0, 0, 0, 0], [0, 1, 2, 0], [0, 3, 4, 0], [0, 5, 6, 0], [0, 0, 0, 0]])
    (found,) = sources(joined, [(2, 1), (1, 1)])
    np.testing.assert_array_equal(found[1:-1, 1], [1, 2, 3])
    (found,) = sources(joined, [None, (1, 2)])
    np.testing.assert_array_equal(found[2:4], [[0, 0, 0, 0], [0, 1, 2, 0]])
    row = layers.move("row", x, run=lambda x: x[0]).producer
    (found,) = sources(row, [(2, 1)])
    assert found.strides == (0,)
    table = np.array([[7, 8, 9]])
    assert gathered(table, found).tolist() == [[8, 8]]
    assert gathered(table, found).strides[1] == 0


def test_where_elements_are_moved_to_must_be_known():
    layers = Layers()
    x, where = layers.input((1, *SHAPE)), layers.weight((3,), "int32")
    moved = layers.move("gather", x, where, run=lambda x, where: np.take(x, where.astype(int), 1)).producer
    assert moved_numbers(moved) is None
    assert sources(moved, [(1, *SHAPE), None]) is None
    seen = ReachReader("layer", gates=True)
    with pytest.raises(ValueError, match="gather"):
        seen.read(layers.graph, x, moved.outputs[0])


def test_numbers_that_single_precision_does_not_hold_are_refused():
    layers = Layers()
    x = layers.input((2**12, 2**12 + 1))
    single = layers.move("flip", x, run=lambda x: x[::-1].astype(np.float32)).producer
    assert moved_numbers(single) is None


def test_no_line_without_one_before():
    reach, _ = reach_of(lambda g, x: g.index(x, ALL, slice(1, 3)))
    without = type(reach)(reach.values)
    assert moved_line([without], np.arange(1, 21).reshape(1, 2, 5, 2), 0) is None
    layers = Layers()
    x = layers.input((1, 2, 5, 2))
    (moved,) = moved_reaches(layers.pad(x, *[(1, 1)] * 4).producer, [without])
    assert moved.lines == (None, None)
