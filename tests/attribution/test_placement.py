"""Where maps lie on the input: a model that crops, turns or pads it, beside the plain model on the changed picture."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from keras import ops
from models import images, randomised
from oracles import assert_close
from spelling import spelled

from keras_gradcam import Class, Explainer, GuidedGradCAMCallback, Probe, explain, list_layers
from keras_gradcam.attribution.placement import lies_there
from keras_gradcam.grids import Placement
from keras_gradcam.metrics import localize, mass_inside, pointing_game

SIZE = (24, 36)
CAMS = ("gradcam", "layercam", "guided_backprop", "guided_gradcam", "saliency")


def body(x, seed_layers=""):
    x = L.Conv2D(4, 3, strides=2, padding="same", activation="relu", name=f"{seed_layers}first")(x)
    x = L.Conv2D(5, 3, padding="same", activation="relu", name=f"{seed_layers}last")(x)
    return L.Dense(3, name=f"{seed_layers}head")(L.GlobalAveragePooling2D(name=f"{seed_layers}mean")(x))


def behind(change, size=SIZE):
    """A network that changes its input first, with the same weights for every change."""
    inputs = keras.Input((*size, 3))
    return randomised(keras.Model(inputs, body(change(inputs))))


def plain(size):
    """The network without the change."""
    return behind(lambda x: x, size)


def whole(array):
    return array


# What the model does to its input; the same done to a batch before; how maps of the changed input go back on the input.
def _pasted(rows, columns):
    def back(maps):
        result = np.zeros((len(maps), *SIZE, *maps.shape[3:]), maps.dtype)
        result[:, rows, columns] = maps
        return result

    return back


def _turned(array):
    return np.rot90(array, 1, axes=(1, 2))


CHANGES = {
    "crop": (
        L.Cropping2D(((6, 2), (8, 12))),
        lambda x: x[:, 6:-2, 8:-12],
        _pasted(slice(6, -2), slice(8, -12)),
    ),
    "slice": (lambda x: x[:, :16, 4:], lambda x: x[:, :16, 4:], _pasted(slice(0, 16), slice(4, None))),
    "center crop": (L.CenterCrop(16, 20), lambda x: x[:, 4:20, 8:28], _pasted(slice(4, 20), slice(8, 28))),
    "flip": (lambda x: ops.flip(x, 2), lambda x: x[:, :, ::-1], lambda maps: maps[:, :, ::-1]),
    "upside down": (
        L.Lambda(lambda x: tf.image.flip_up_down(x)),
        lambda x: x[:, ::-1],
        lambda maps: maps[:, ::-1],
    ),
    "transpose": (L.Permute((2, 1, 3)), lambda x: x.swapaxes(1, 2), lambda maps: maps.swapaxes(1, 2)),
    "quarter turn": (
        L.Lambda(lambda x: tf.image.rot90(x)),
        _turned,
        lambda maps: np.rot90(maps, -1, axes=(1, 2)),
    ),
    "gathered backwards": (
        lambda x: ops.take(x, np.arange(SIZE[0])[::-1], axis=1),
        lambda x: x[:, ::-1],
        lambda maps: maps[:, ::-1],
    ),
    "crop of a crop, flipped": (
        lambda x: ops.flip(L.Cropping2D(((0, 4), (4, 0)))(x[:, 4:]), 1),
        lambda x: x[:, 4:-4, 4:][:, ::-1],
        lambda maps: _pasted(slice(4, -4), slice(4, None))(maps[:, ::-1]),
    ),
}


@pytest.mark.parametrize(("change", "changed", "back"), CHANGES.values(), ids=CHANGES)
def test_maps_are_those_of_the_plain_network_on_the_changed_picture(change, changed, back):
    pictures = images(2, SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = explain(behind(change), pictures, target=1, methods=CAMS)
    prepared = np.ascontiguousarray(changed(pictures))
    expected = explain(plain(prepared.shape[1:3]), prepared, target=1, methods=CAMS)
    assert result.gradcam.max() > 0
    assert_close(result.scores, expected.scores, 1e-5)
    assert_close(result.heatmap, back(expected.heatmap), 1e-5)
    assert_close(result.on_input(result.maps["layercam"]), back(expected.on_input(expected.maps["layercam"])), 1e-5)
    for name in ("guided_backprop", "guided_gradcam", "saliency"):
        assert_close(result.maps[name], back(expected.maps[name]), 1e-5)


@pytest.mark.parametrize(
    ("change", "widths", "mode"),
    [
        (L.ZeroPadding2D(((8, 4), (12, 0))), ((8, 4), (12, 0)), "constant"),
        (lambda x: ops.pad(x, ((0, 0), (6, 6), (0, 8), (0, 0)), mode="reflect"), ((6, 6), (0, 8)), "reflect"),
        (lambda x: ops.pad(x, ((0, 0), (0, 0), (10, 10), (0, 0)), constant_values=1), ((0, 0), (10, 10)), "ones"),
    ],
    ids=["zeros", "mirrored", "ones"],
)
def test_what_a_model_pads_lies_beside_the_picture(change, widths, mode):
    pictures = images(2, SIZE)
    options = {"constant_values": 1} if mode == "ones" else {}
    padded = np.pad(pictures, ((0, 0), *widths, (0, 0)), "constant" if mode == "ones" else mode, **options)
    (top, bottom), (left, right) = widths
    inner = slice(top, padded.shape[1] - bottom), slice(left, padded.shape[2] - right)
    result = explain(behind(change), pictures, target=1)
    expected = explain(plain(padded.shape[1:3]), padded, target=1)
    assert_close(result.heatmap, expected.heatmap[(slice(None), *inner)], 1e-5)
    if mode != "reflect":  # a mirrored pixel adds its gradient to that of the one it mirrors
        assert_close(result.guided_gradcam, expected.guided_gradcam[(slice(None), *inner)], 1e-5)


def test_padding_before_a_convolution_belongs_to_it():
    inputs = keras.Input((32, 32, 3))
    x = L.Conv2D(4, 7, strides=2, activation="relu")(L.ZeroPadding2D(3)(inputs))
    x = L.MaxPooling2D(3, 2)(L.ZeroPadding2D(1)(x))
    x = L.DepthwiseConv2D(3, strides=2, activation="relu", name="last")(L.ZeroPadding2D(((0, 1), (0, 1)))(x))
    model = randomised(keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x))))
    assert explain(model, images(1, (32, 32))).placement == Placement.whole(2)


def test_channels_that_the_model_turns_to_the_end():
    inputs = keras.Input((3, *SIZE))
    turned = L.Lambda(lambda x: ops.transpose(x, (0, 2, 3, 1)))(inputs)
    model = randomised(keras.Model(inputs, body(turned)))
    pictures = images(2, SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = explain(model, pictures.transpose(0, 3, 1, 2), target=1, methods=CAMS)
    expected = explain(plain(SIZE), pictures, target=1, methods=CAMS)
    assert_close(result.heatmap, expected.heatmap, 1e-5)
    assert_close(result.maps["saliency"], expected.maps["saliency"], 1e-5)
    for name in ("guided_backprop", "guided_gradcam"):
        assert_close(result.maps[name], expected.maps[name].transpose(0, 3, 1, 2), 1e-5)
    assert (result.pictures == pictures).all()
    assert (result.overlay() == expected.overlay()).all()


def test_callback_watches_a_model_whose_channels_come_first(tmp_path):
    inputs = keras.Input((3, *SIZE))
    model = randomised(keras.Model(inputs, body(ops.transpose(inputs, (0, 2, 3, 1)))))
    model.compile("sgd", "mse")
    pictures = images(2, SIZE)
    callback = GuidedGradCAMCallback(
        Probe(pictures.transpose(0, 3, 1, 2), regions=[(0, 0, 36, 24)] * 2), tmp_path, target=1, on_error="raise"
    )
    model.fit(pictures.transpose(0, 3, 1, 2), np.zeros((2, 3)), verbose=0, callbacks=[callback])
    assert_close(callback.history.numbers["mass_inside"], np.ones((1, 2)), 1e-6)
    assert_close(callback.history.maps[-1], explain(model, pictures.transpose(0, 3, 1, 2), target=1).gradcam, 1e-2)


def test_regions_are_measured_where_the_map_lies(tmp_path):
    pictures = images(2, SIZE)
    model = behind(L.Cropping2D(((8, 0), (0, 12))))
    result = explain(model, pictures, target=1, methods="gradcam")
    region = (6, 8, 18, 24)
    mask = np.zeros(SIZE)
    mask[8:24, 6:18] = 1
    shares = (result.heatmap * mask).sum((1, 2)) / result.heatmap.sum((1, 2))
    # Cells of two pixels, so that their areas and the enlarged map agree but for its blur at the region's border.
    assert_close(mass_inside(result, [region] * 2).values, shares, 0.1)
    cells = result.gradcam[:, :, 3:9].sum((1, 2)) / result.gradcam.sum((1, 2))
    assert_close(mass_inside(result, [region] * 2).values, cells, 1e-5)
    peaks = [np.unravel_index(heatmap.argmax(), SIZE) for heatmap in result.heatmap]
    boxes = [(x - 1, y - 1, x + 2, y + 2) for y, x in peaks]
    assert pointing_game(result, boxes, tolerance=1).mean == 1
    assert pointing_game(result, [(24, 0, 36, 24)] * 2, tolerance=5).mean == 0  # what was cut off
    assert (localize(result).boxes[:, 1] >= 8).all()

    model.compile(keras.optimizers.SGD(0.0), "mse")
    callback = GuidedGradCAMCallback(Probe(pictures, regions=[region] * 2), tmp_path, target=1, methods="gradcam")
    logs = model.fit(pictures, np.zeros((2, 3)), verbose=0, callbacks=[callback]).history
    assert_close(np.array(logs["gradcam_mass_inside"]), cells.mean()[None], 1e-5)


# ------------------------------------------------------------------------------------------------------------ no place


def spectrogram(inputs):
    frames = ops.reshape(inputs, (-1, 32, 16))
    return ops.expand_dims(ops.abs(ops.matmul(frames, np.random.default_rng(0).normal(size=(16, 12)))), -1)


def table(inputs):
    return ops.reshape(inputs, (-1, SIZE[1], SIZE[0], 3))


def both_ways(inputs):
    return ops.add(inputs, ops.flip(inputs, 2))


def shuffled(inputs):
    return ops.take(inputs, np.random.default_rng(3).permutation(SIZE[0]), axis=1)


@pytest.mark.parametrize("change", [table, both_ways, shuffled], ids=spelled)
def test_cells_without_a_place_are_refused(change, tmp_path):
    model = behind(change)
    with pytest.raises(ValueError, match=r"`layer` must have cells that lie on the input.*no regular grid"):
        explain(model, images(1, SIZE))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="`layer` must have cells that lie on the input"):
        model.fit(images(2, SIZE), np.zeros((2, 3)), callbacks=[GuidedGradCAMCallback(images(2, SIZE), tmp_path)])


def test_spectrogram_made_inside_is_refused_with_a_way_out_that_works():
    inputs = keras.Input((512, 1))
    picture = L.Lambda(spectrogram, name="spectrogram")(inputs)
    model = randomised(keras.Model(inputs, body(picture)))
    sound = np.random.default_rng(1).normal(size=(2, 512, 1)).astype("float32")
    way_out = r"keras\.Model\(model\.get_layer\('spectrogram'\)\.output, model\.output\)"
    with pytest.raises(ValueError, match=f"(?s)`layer` must.*{way_out}"):
        explain(model, sound)
    inner = keras.Model(model.get_layer("spectrogram").output, model.output)
    pictures = keras.Model(inputs, picture).predict(sound, verbose=0)
    result = explain(inner, pictures, target=1)
    assert result.heatmap.shape == (2, 32, 12)
    assert_close(result.scores, model.predict(sound, verbose=0)[:, 1], 1e-5)


def test_sound_itself_is_no_map():
    inputs = keras.Input((512,))
    picture = L.Lambda(spectrogram, name="spectrogram")(L.Reshape((512, 1))(inputs))
    model = keras.Model(inputs, body(picture))
    with pytest.raises(ValueError, match=r"(?s)`layer` must be named.*get_layer\('spectrogram'\)\.output"):
        explain(model, np.ones((1, 512)))


@pytest.mark.parametrize("layer", [None, "conv", "frames/net/conv"])
def test_frames_folded_into_the_batch_are_refused_with_a_way_out_that_works(layer):
    conv, dense = L.Conv2D(4, 3, activation="relu", name="conv"), L.Dense(2)
    net = keras.Sequential([keras.Input((8, 8, 3)), conv, L.GlobalAveragePooling2D()], name="net")
    video = keras.Input((5, 8, 8, 3))
    model = keras.Model(video, dense(L.LSTM(3, name="memory")(L.TimeDistributed(net, name="frames")(video))))
    frames = np.random.default_rng(0).normal(size=(2, 5, 8, 8, 3)).astype("float32")
    with pytest.raises(ValueError, match=r"`layer` must.*keras\.layers\.TimeDistributed around each layer"):
        explain(model, frames, layer=layer, methods="gradcam")
    each = L.TimeDistributed(conv, name="each")(video)
    pooled = L.TimeDistributed(L.GlobalAveragePooling2D())(each)
    way_out = keras.Model(video, dense(model.get_layer("memory")(pooled)))
    result = explain(way_out, frames, target=1, layer="each", methods="gradcam")
    with tf.GradientTape() as tape:
        maps = conv(frames.reshape(10, 8, 8, 3))
        tape.watch(maps)
        score = dense(model.get_layer("memory")(tf.reshape(tf.reduce_mean(maps, (1, 2)), (2, 5, 4))))[:, 1]
    gradients = tape.gradient(score, maps).numpy().reshape(2, 5, 6, 6, 4)
    # One map over time and space, so one weight per channel for all frames.
    weights = gradients.mean((1, 2, 3), keepdims=True)
    assert_close(result.gradcam, np.maximum((weights * maps.numpy().reshape(2, 5, 6, 6, 4)).sum(-1), 0), 1e-5)


class Unknown(L.Layer):
    """Computes what no rule is known for: a function of NumPy."""

    def call(self, x):
        @tf.custom_gradient
        def run(t):
            return tf.numpy_function(lambda a: a[:, ::-1] if self.flips else a, [t], t.dtype), (
                lambda g: tf.reverse(g, [1]) if self.flips else g
            )

        result = run(x)
        result.set_shape(x.shape)
        return result

    def __init__(self, flips, **options):
        super().__init__(**options)
        self.flips = flips

    def compute_output_shape(self, shape):
        return shape


def test_gradient_decides_where_no_rule_is_known():
    pictures = images(1, SIZE)
    result = explain(behind(Unknown(False)), pictures, target=1)
    assert_close(result.heatmap, explain(plain(SIZE), pictures, target=1).heatmap, 1e-5)
    with pytest.raises(ValueError, match=r"`layer` must have cells that lie on the input.*operation"):
        explain(behind(Unknown(True)), pictures, target=1)


@pytest.mark.parametrize(
    ("placement", "true"),
    [
        (Placement.whole(2), True),
        (Placement((1, 0), ((0.0, 1.0), (0.0, 1.0))), False),
        (Placement((0, 1), ((1.0, 0.0), (0.0, 1.0))), False),
        (Placement((0, 1), ((0.0, 1.0), (1.0, 0.0))), False),
        (Placement((0, 1), ((0.6, 1.4), (0.0, 1.0))), False),
    ],
    ids=["right", "turned", "upside down", "mirrored", "beside"],
)
def test_gradients_of_cells_confirm_a_placement_or_not(placement, true):
    def gradients_at(positions):
        cells = (positions * (6, 9)).astype(int)
        gradients = np.zeros((len(cells), *SIZE, 3))
        for gradient, (row, column) in zip(gradients, cells, strict=True):
            gradient[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = -1
        return gradients, cells, (6, 9)

    assert lies_there(placement, (*SIZE, 3), gradients_at) == true


# -------------------------------------------------------------------------------------------------------------- tokens


def tokens(extra_before, extra_after, swap=False):
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(6, 4, strides=4, name="patches")(inputs)
    x = L.Reshape((-1, 6), name="tokens")(L.Permute((2, 1, 3))(x) if swap else x)
    x = Joined(extra_before, extra_after, name="joined")(x)
    x = L.Add(name="mixed")([x, L.MultiHeadAttention(1, 4, name="attention")(x, x)])
    return randomised(keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x))))


class Joined(L.Layer):
    """Adds tokens of its own before and after."""

    def __init__(self, before, after, **options):
        super().__init__(**options)
        self.before, self.after = before, after

    def build(self, shape):
        self.extra = self.add_weight(shape=(1, self.before + self.after, shape[-1]), initializer="zeros")

    def call(self, x):
        extra = ops.repeat(self.extra, ops.shape(x)[0], 0)
        return ops.concatenate([extra[:, : self.before], x, extra[:, self.before :]], 1)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 0), (0, 3), (2, 4), (5, 1)])
@pytest.mark.parametrize("layer", ["joined", "mixed"])
def test_tokens_of_the_picture_are_told_from_others(before, after, layer):
    model = tokens(before, after)
    pictures = images(2, SIZE)
    result = explain(model, pictures, target=1, layer=layer, methods="hirescam")
    features = keras.Model(model.input, model.get_layer(layer).output)
    rest = keras.Model(model.get_layer(layer).output, model.output)
    with tf.GradientTape() as tape:
        vectors = features(pictures)
        tape.watch(vectors)
        score = rest(vectors)[:, 1]
    products = np.maximum((vectors * tape.gradient(score, vectors)).numpy().sum(-1), 0)
    assert_close(result.maps["hirescam"], products[:, before : before + 54].reshape(2, 6, 9), 1e-5)


def test_tokens_in_columns_become_a_map_in_rows():
    pictures = images(2, SIZE)
    by_rows = explain(tokens(1, 0), pictures, target=1, layer="joined", methods="hirescam")
    by_columns = explain(tokens(1, 0, swap=True), pictures, target=1, layer="joined", methods="hirescam")
    assert by_rows.maps["hirescam"].max() > 0
    assert_close(by_columns.maps["hirescam"], by_rows.maps["hirescam"], 1e-5)


# ------------------------------------------------------------------------------------------------- layers, calls, cost


def test_each_call_of_a_layer_has_its_own_place():
    inputs = keras.Input((*SIZE, 3))
    shared = L.Conv2D(4, 3, padding="same", activation="relu", name="shared")
    left, right = (L.GlobalAveragePooling2D()(shared(part)) for part in (inputs[:, :, :18], inputs[:, :, 18:]))
    model = randomised(keras.Model(inputs, L.Dense(6)(L.Concatenate()([left, right]))))
    pictures = images(4, SIZE)
    halves = []
    for call in (0, 1):
        maps = [Explainer(model, layer="shared", layer_call=call, target=target)(pictures) for target in range(6)]
        halves.append(sum(result.heatmap for result in maps).sum(axis=(0, 1)) > 0)
    # In whatever order Keras calls them.
    assert sorted(half.tolist() for half in halves) == [[False] * 18 + [True] * 18, [True] * 18 + [False] * 18]


def test_permuted_map_is_explained_where_it_is_named_and_listed():
    inputs = keras.Input((*SIZE, 3))
    conv = L.Conv2D(4, 3, padding="same", activation="relu", name="conv")(inputs)
    x = L.Permute((2, 1, 3), name="permuted")(conv)
    model = randomised(keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x))))
    assert [call.path for call in list_layers(model)] == ["conv", "permuted"]
    pictures = images(2, SIZE)
    result = explain(model, pictures, target=1)
    assert result.layer == "conv"
    assert_close(explain(model, pictures, target=1, layer="permuted").gradcam, result.gradcam, 1e-5)


def test_confirmation_leaves_no_second_trace(monkeypatch):
    model = behind(L.Cropping2D(4))
    explainer = Explainer(model, target=Class(1))
    explainer(images(2, SIZE))
    monkeypatch.setattr(type(explainer.runner.engine), "trace", None)
    assert explainer(images(3, SIZE)).heatmap.shape == (3, *SIZE)
