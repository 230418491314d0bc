"""The places of a layer's cells, in graphs as different backends are translated to them."""

from __future__ import annotations

import numpy as np
import pytest
from graph_layers import Layers, linear_weights, loud
from numpy.testing import assert_allclose

from keras_gradcam.engine.base import LayerCall, LayerOutput
from keras_gradcam.engine.boxes import Window
from keras_gradcam.engine.graphs.placement import PlaceReader, layout_of
from keras_gradcam.engine.places import Lost
from keras_gradcam.grids import Placement

SIZE = (32, 48)
ALL = slice(None)


def output(value, path="last"):
    return LayerOutput(LayerCall(path, "", (None, *value.shape[1:])), None, value)


def layout(network, shape=(*SIZE, 3)):
    """How the map of a network lies, given as a function of a graph and its input."""
    layers = Layers()
    picture = layers.input((1, *shape))
    return layout_of(output(network(layers, picture)), PlaceReader.of_input(picture, shape), shape)


def conv(g, x, stride=1, size=3, padding="same", dilation=1):
    """A convolution as JAX has it: channels last, padding of its own."""
    windows = {
        axis: Window.same(size, stride, dilation, x.shape[axis])
        if padding == "same"
        else Window(size, stride, dilation)
        for axis in range(1, len(x.shape) - 1)
    }
    return g.conv(x, 4, windows)


def conv_first(g, x, stride=1, size=3):
    """A convolution as PyTorch has it: channels first between two transpositions, odd padding made before."""
    turned = g.transpose(x, 0, 3, 1, 2)
    windows = [Window.same(size, stride, 1, extent) for extent in turned.shape[2:]]
    if any(window.before != window.after for window in windows):
        turned = g.pad(turned, (0, 0), (0, 0), *((window.before, window.after) for window in windows))
        windows = [Window(size, stride)] * 2
    return g.transpose(g.conv(turned, 4, dict(enumerate(windows, 2)), channel_axis=1), 0, 2, 3, 1)


def conv_halved(g, x, size=4):
    """A convolution as PyTorch's own "same" has it: of an odd padding the even part is the operation's."""
    own, odd = divmod(size - 1, 2)
    padded = g.pad(x, (0, 0), (0, odd), (0, odd), (0, 0))
    return g.conv(padded, 4, {1: Window(size, 1, 1, own, own), 2: Window(size, 1, 1, own, own)})


def pool_first(g, x, size, stride):
    """A pooling with padding "same" as PyTorch has it: cells at the border are repeated."""
    turned = g.transpose(x, 0, 3, 1, 2)
    windows = [Window.same(size, stride, 1, extent) for extent in turned.shape[2:]]
    padding = [(window.before, window.after) for window in windows]
    turned = g.pad(turned, (0, 0), (0, 0), *padding, mode="edge")
    return g.transpose(g.pool(turned, {2: Window(size, stride), 3: Window(size, stride)}, "max", 1), 0, 2, 3, 1)


def back(g, x, channel_axis=-1):
    axes = (1, 2) if channel_axis == -1 else (2, 3)
    windows = {axis: Window(3, 2, 1, 0, 1) for axis in axes}
    return g.back(x, 4, windows, {axis: 2 * x.shape[axis] for axis in axes}, channel_axis)


def trimmed(g, x, size, stride):
    """A transposed convolution with padding "same" as PyTorch has it: too large at first, then cut and padded."""
    windows = {axis: Window(size, stride) for axis in (2, 3)}
    turned = g.transpose(x, 0, 3, 1, 2)
    full = [(extent - 1) * stride + size for extent in turned.shape[2:]]
    result = g.back(turned, 4, windows, dict(enumerate(full, 2)), 1)
    start, after = max(size - stride, 0) // 2, max(stride - size, 0)
    result = g.index(result, ALL, ALL, slice(start, start + stride * turned.shape[2]))
    result = g.index(result, ALL, ALL, ALL, slice(start, start + stride * turned.shape[3]))
    padded = g.pad(result, (0, 0), (0, 0), (0, after), (0, after)) if after else result
    return g.transpose(padded, 0, 2, 3, 1)


def gate(g, x):
    mean = g.reduce(x, 1, 2, function="mean")
    return g.elementwise(
        "sigmoid", g.reshape(g.contract("nc,cd->nd", mean, loud(x.shape[-1], x.shape[-1])), 1, 1, 1, -1)
    )


def normalized(g, x, *axes):
    """A normalisation by statistics along some axes, from its parts."""
    centered = g.elementwise("subtract", x, g.reduce(x, *axes, keepdims=True))
    variance = g.reduce(g.elementwise("square", centered), *axes, keepdims=True)
    return g.elementwise("multiply", centered, g.elementwise("rsqrt", g.elementwise("add", variance, 1e-3)))


def softmax_of_parts(g, x, axis):
    shifted = g.elementwise("subtract", x, g.reduce(x, axis, function="max", keepdims=True))
    powers = g.elementwise("exp", shifted)
    return g.elementwise("divide", powers, g.reduce(powers, axis, function="sum", keepdims=True))


def attention(g, x, softmax=lambda g, x: g.along(x, -1), scores="bqd,bkd->bqk", mixed="bqk,bkd->bqd", swapped=False):
    """Attention between the cells of a map, without what is added to it."""
    cells = g.reshape(x, 1, -1, x.shape[-1])
    q, k, v = (g.contract("bnc,cd->bnd", cells, loud(x.shape[-1], 4)) for _ in range(3))
    weights = softmax(g, g.contract(scores, q, k))
    result = g.contract("bkd,bqk->bqd", v, weights) if swapped else g.contract(mixed, weights, v)
    return g.reshape(result, *x.shape[:-1], 4)


def resized(g, x, height, width, axes=(1, 2)):
    return g.resize(x, {axis: linear_weights(n, x.shape[axis]) for axis, n in zip(axes, (height, width), strict=True)})


def nearest(count, extent):
    return np.eye(extent)[((np.arange(count) + 0.5) * extent / count).astype(int)]


def aligned_corners(count, extent):
    position = np.linspace(0, extent - 1, count)
    return np.maximum(1 - np.abs(position[:, None] - np.arange(extent)), 0)


def into_channels(g, x):
    parts = g.reshape(x, 1, 8, 4, 12, 4, 3)
    return conv(g, g.reshape(g.transpose(parts, 0, 1, 3, 2, 4, 5), 1, 8, 12, 48), 1, 1)


def shifted(g, x, by):
    return g.move("roll", x, run=lambda x: np.roll(x, by, 1))


NETWORKS = {
    "strides": lambda g, x: conv(g, conv(g, x, 4, 5), 2),
    "strides, channels first": lambda g, x: conv_first(g, conv_first(g, x, 4, 5), 2),
    "even, padded in two steps": lambda g, x: conv_halved(g, conv_halved(g, x), 6),
    "valid": lambda g, x: conv(g, conv(g, x, 2, 3, "valid"), 1, 5, "valid"),
    "dilated": lambda g, x: conv(g, x, 1, 3, "valid", 4),
    "padded before": lambda g, x: conv(g, g.pad(x, (0, 0), (2, 2), (2, 2), (0, 0)), 1, 3, "valid", 2),
    "reflected before": lambda g, x: conv(g, g.pad(x, (0, 0), (3, 3), (3, 3), (0, 0), mode="reflect"), 1, 7, "valid"),
    "pooling": lambda g, x: g.pool(g.pool(x, {1: Window(3, 2, 1, 0, 1), 2: Window(3, 2, 1, 0, 1)}), 4, "mean"),
    "pooling, channels first": lambda g, x: pool_first(g, pool_first(g, x, 3, 2), 2, 2),
    "transposed": lambda g, x: back(g, conv(g, x, 4)),
    "transposed, channels first": lambda g, x: g.transpose(
        back(g, g.transpose(conv_first(g, x, 4), 0, 3, 1, 2), 1), 0, 2, 3, 1
    ),
    "transposed and trimmed": lambda g, x: trimmed(g, conv_first(g, x, 4), 3, 2),
    "transposed and trimmed at both ends": lambda g, x: trimmed(g, conv_first(g, x, 4), 5, 2),
    "transposed and padded": lambda g, x: trimmed(g, conv_first(g, x, 4), 1, 3),
    "up and down": lambda g, x: conv(g, resized(g, conv(g, x, 4), *SIZE), 2),
    "nearest": lambda g, x: conv(g, g.repeat(conv(g, x, 4), 4), 2),
    "nearest by weights": lambda g, x: conv(g, g.resize(conv(g, x, 4), {1: nearest(32, 8), 2: nearest(48, 12)}), 2),
    "corners aligned": lambda g, x: g.resize(x, {1: aligned_corners(64, 32), 2: aligned_corners(24, 48)}),
    "residual": lambda g, x: g.elementwise("add", conv(g, x, 2, 1), conv(g, conv(g, x, 2))),
    "joined branches": lambda g, x: g.concatenate(conv(g, x, 2), g.pool(x, 2), conv(g, x, 2, 7)),
    "joined with nothing": lambda g, x: g.concatenate(
        g.index(x, ..., slice(0, 0)), g.concatenate(g.index(x, ALL, slice(0, 0)), x, axis=1)
    ),
    "joined branches, channels first": lambda g, x: g.concatenate(
        conv_first(g, x, 2), pool_first(g, x, 2, 2), conv_first(g, x, 2, 7)
    ),
    "gated": lambda g, x: g.elementwise("multiply", gate(g, x), conv(g, x, 2) and x),
    "context beside features": lambda g, x: conv(
        g,
        g.concatenate(conv(g, x), g.repeat(g.resize(gate(g, x), {1: np.ones((32, 1)), 2: np.ones((48, 1))}), 1)),
        1,
        1,
    ),
    "normalised": lambda g, x: normalized(g, normalized(g, conv(g, x, 2), -1), 1, 2, 3),
    "pixels into channels": into_channels,
    "patches": lambda g, x: g.reshape(
        g.contract("bnc,cd->bnd", g.reshape(conv(g, x, 4, 4, "valid"), 1, 96, 4), loud(4, 5)), 1, 8, 12, 5
    ),
    "folded for a product": lambda g, x: g.reshape(
        g.contract("nc,cd->nd", g.reshape(conv(g, x, 4), 96, 4), loud(4, 5)), 1, 8, 12, 5
    ),
    "attention beside its input": lambda g, x: (lambda y: g.elementwise("add", y, attention(g, y)))(conv(g, x, 8)),
    "attention of keys and queries": lambda g, x: (
        lambda y: g.elementwise("add", y, attention(g, y, scores="bkd,bqd->bqk"))
    )(conv(g, x, 8)),
    "attention with a softmax of parts": lambda g, x: attention(
        g, conv(g, x, 8), lambda g, x: softmax_of_parts(g, x, -1)
    ),
    "attention with factors swapped": lambda g, x: attention(g, conv(g, x, 8), swapped=True),
    "shifted and back": lambda g, x: shifted(g, conv(g, shifted(g, x, 3)), -3),
    "resized": lambda g, x: conv(g, resized(g, x, 20, 20), 2),
    "resized, channels first": lambda g, x: g.transpose(
        resized(g, g.transpose(conv(g, x), 0, 3, 1, 2), 20, 30, (2, 3)), 0, 2, 3, 1
    ),
    "product over channels": lambda g, x: g.contract("bhwc,cd->bhwd", x, loud(3, 5)),
    "product with the picture on the right": lambda g, x: g.contract("dc,bhwc->bhwd", loud(5, 3), x),
    "cumulative": lambda g, x: g.along(conv(g, x), -1, function="cumsum"),
    "sorted channels": lambda g, x: g.along(x, -1, function="sort"),
    "channels shuffled, channels first": lambda g, x: g.transpose(
        g.reshape(
            g.transpose(g.reshape(g.transpose(conv_first(g, x, 2), 0, 3, 1, 2), 1, 2, 2, 16, 24), 0, 2, 1, 3, 4),
            *(1, 4, 16, 24),
        ),
        *(0, 2, 3, 1),
    ),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_ordinary_networks_keep_the_plain_enlargement(network):
    assert layout(network).placement == Placement.whole(2)


def shifted_weights(count, extent, factor, shift):
    """The weights of linear resizing by a factor, moved by some cells."""
    position = (np.arange(count) + 0.5 - shift) / factor - 0.5
    return np.maximum(1 - np.abs(position[:, None] - np.arange(extent)), 0)


CUTS = {
    "crop": (lambda g, x: g.index(x, ALL, slice(4, 20), slice(12, None)), ((4 / 32, 20 / 32), (12 / 48, 1))),
    "crop, then valid windows": (
        lambda g, x: conv(g, g.index(x, ALL, slice(4, 20), slice(12, None)), 2, 3, "valid"),
        ((4 / 32, 20 / 32), (12 / 48, 1)),
    ),
    "crop of the features": (
        lambda g, x: g.index(conv(g, x, 4), ALL, slice(2, -2), slice(2, -2)),
        ((0.25, 0.75), (1 / 6, 5 / 6)),
    ),
    "crop, padded for a convolution": (
        lambda g, x: conv(
            g, g.pad(g.index(x, ALL, ALL, slice(24, None)), (0, 0), (3, 3), (3, 3), (0, 0)), 2, 7, "valid"
        ),
        ((0, 1), (0.5, 1)),
    ),
    "crop behind a transposed convolution": (
        lambda g, x: g.transpose(
            g.index(back(g, g.transpose(conv_first(g, x, 4), 0, 3, 1, 2), 1), ALL, ALL, slice(4, 12), slice(0, 12)),
            *(0, 2, 3, 1),
        ),
        ((0.25, 0.75), (0, 0.5)),
    ),
    "crop behind a transposed convolution, channels last": (
        lambda g, x: g.index(back(g, conv(g, x, 4)), ALL, slice(2, 16)),
        ((0.125, 1), (0, 1)),
    ),
    "padding that stays": (
        lambda g, x: conv(g, g.pad(x, (0, 0), (16, 0), (0, 12), (0, 0))),
        ((-0.5, 1), (0, 1.25)),
    ),
    "padding by joining": (
        lambda g, x: conv_first(g, g.concatenate(g.constant(np.zeros((1, 16, 48, 3))), x, axis=1)),
        ((-0.5, 1), (0, 1)),
    ),
    "resized and moved": (
        lambda g, x: g.resize(x, {1: shifted_weights(16, 32, 1, -8), 2: shifted_weights(24, 48, 1, 0)}),
        ((0.25, 0.75), (0, 0.5)),
    ),
    "channels of a crop": (
        lambda g, x: g.index(conv(g, g.index(x, ALL, slice(16, None))), ..., slice(2, None)),
        ((0.5, 1), (0, 1)),
    ),
    "every other row from the end": (lambda g, x: g.index(x, ALL, slice(None, None, -2)), ((1, 0), (0, 1))),
    "picked rows": (
        lambda g, x: g.move("gather", x, g.constant(range(8, 24), "int32"), run=lambda x, rows: x[:, rows]),
        ((0.25, 0.75), (0, 1)),
    ),
}


@pytest.mark.parametrize(("network", "spans"), CUTS.values(), ids=CUTS)
def test_what_moves_pixels_is_followed(network, spans):
    found = layout(network)
    assert found.placement.axes == (0, 1)
    assert_allclose(found.placement.spans, spans, atol=1e-9)


def test_one_of_several_parts():
    layers = Layers()
    picture = layers.input((1, *SIZE, 3))
    parts = layers.move("split", picture, run=lambda x: np.split(x, 3, axis=2))
    reader = PlaceReader.of_input(picture, (*SIZE, 3))
    for part, span in zip(parts, ((0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1)), strict=True):
        assert_allclose(layout_of(output(part), reader, (*SIZE, 3)).placement.spans, ((0, 1), span))


def test_axes_of_series_and_volumes():
    series = layout(lambda g, x: conv(g, g.index(x, ALL, slice(16, None)), 2), (64, 2))
    assert series.placement == Placement((0,), ((0.25, 1.0),))
    volume = layout(lambda g, x: conv(g, g.transpose(x, 0, 3, 1, 2, 4)), (8, 12, 16, 2))
    assert volume.placement == Placement((2, 0, 1), ((0.0, 1.0),) * 3)


def test_tokens_are_laid_on_their_grid():
    def tokens(g, x):
        patches = g.reshape(conv(g, x, 8, 8, "valid"), 1, 24, 4)
        joined = g.concatenate(g.constant(loud(1, 1, 4)), patches, axis=1)
        return normalized(g, g.elementwise("add", joined, g.weight((25, 4))), -1)

    found = layout(tokens)
    assert (found.grid, found.first, found.placement) == ((4, 6), 1, Placement.whole(2))


def test_map_of_another_input():
    layers = Layers()
    picture, other = layers.input((1, 8, 8, 3)), layers.input((1, 6, 6, 3))
    reader = PlaceReader.of_input(picture, (8, 8, 3))
    assert layout_of(output(conv(layers, other)), reader, (8, 8, 3)).placement == Placement.whole(2)
    assert reader.places(layers.weight((3,))) is None


def opaque(g, x):
    return g.add("opaque", "opaque", x, run=lambda x: x[:, :8, :8], name="fft2")


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (opaque, "computed by the operation fft2"),
        (lambda g, x: conv(g, opaque(g, x)), "fft2"),
        (lambda g, x: g.reshape(x, 1, 48, 32, 3), "regular grid"),
        (lambda g, x: g.elementwise("add", x, g.index(x, ALL, slice(None, None, -1))), "regular grid"),
        (lambda g, x: g.along(x, 1, function="sort"), "regular grid"),
        (lambda g, x: g.reshape(x, 2, 16, 48, 3), "batch"),
        (
            lambda g, x: g.move("gather", x, g.weight((4,), "int32"), run=lambda x, rows: x[:, rows.astype(int)]),
            "gather",
        ),
        (
            lambda g, x: g.move(
                "gather", x, g.index(x, 0, slice(0, 8), 0, 0), run=lambda x, rows: x[:, rows.astype(int)]
            ),
            "gather",
        ),
        (lambda g, x: g.add("named", "window", x, x, run=lambda x, _: x, windows={}, channels=3, groups=1), "named"),
        (lambda g, x: g.contract("bhhc->bhc", g.index(x, ALL, ALL, slice(0, 32))), "einsum"),
        (
            lambda g, x: conv(g, g.move("pad", x, run=lambda x: np.zeros_like(x))),
            "convolution",
        ),
    ],
)
def test_what_cannot_be_followed_is_said(network, reason):
    found = layout(network).placement
    assert isinstance(found, Lost)
    assert reason in found.reason


def test_what_is_lost_beside_what_is_not():
    assert layout(lambda g, x: g.elementwise("add", x, g.add("f", "opaque", x, run=lambda x: x))).placement.is_whole


def test_first_layer_that_has_lost_its_places():
    layers = Layers()
    picture = layers.input((1, 16, 16, 3))
    first = conv(layers, picture)
    lost = opaque(layers, first)
    outputs = [output(first, "a"), output(layers.reduce(lost, 1, 2), "b"), output(lost, "c"), output(lost, "d")]
    reader = PlaceReader.of_input(picture, (16, 16, 3))
    assert layout_of(outputs[3], reader, (16, 16, 3), outputs).placement.layer == "c"
    assert layout_of(outputs[3], reader, (16, 16, 3), outputs[:2]).placement.layer == ""


def test_results_beside_the_first():
    layers = Layers()
    picture = layers.input((1, 8, 6, 2))
    values, indices, means = layers.add(
        "sort", "along", picture, run=lambda x: [np.sort(x, -1), np.argsort(x, -1), x.mean(-1)], axes=(-1,)
    )
    reader = PlaceReader.of_input(picture, (8, 6, 2))
    np.testing.assert_array_equal(reader.places(values), reader.places(indices))
    assert reader.places(means) is None


def test_places_of_moved_pixels_are_exact():
    """Beside the numbers of pixels that NumPy moves."""
    shape = (7, 5, 2)
    layers = Layers()
    picture = layers.input((1, *shape))
    moved = layers.transpose(
        layers.pad(layers.index(picture, ALL, slice(1, 6, 2), slice(None, None, -1)), (0, 0), (1, 0), (0, 2), (0, 1)),
        *(0, 3, 1, 2),
    )
    numbers = np.arange(1, 1 + np.prod(shape)).reshape(1, *shape).astype(float)
    found = layers.computed({picture: numbers})(moved)
    expected = np.stack(np.unravel_index(np.maximum(found - 1, 0).astype(int), shape)) + 0.5
    expected[:, found == 0] = np.nan
    np.testing.assert_array_equal(PlaceReader.of_input(picture, shape).places(moved), expected)


def test_what_all_channels_share_takes_no_memory_of_its_own():
    layers = Layers()
    picture = layers.input((1, *SIZE, 3))
    reader = PlaceReader.of_input(picture, (*SIZE, 3))
    maps = layers.transpose(conv_first(layers, picture), 0, 3, 1, 2)
    assert reader.places(maps).strides[2] == 0
    assert reader.places(layers.elementwise("relu", layers.pad(maps, *[(0, 0)] * 3, (1, 1)))).strides[2] == 0
