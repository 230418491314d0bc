"""Similarities taken apart over cells, against sums written from the weights; what cannot be taken apart is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from backends import numbers, tensorflow_only
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import layers as L  # noqa: N812
from models import ClassToken, images, randomised
from oracles import assert_close
from oracles_reid import Affine, cosine, flattened_cells, pair_matrix
from snapshots import Snapshot

from keras_gradcam import Class, Explainer, Output, SelfSimilarity, Similarity
from keras_gradcam.engine import current_engine
from keras_gradcam.reid import SimilarityMaps, similarity, similarity_maps

SIZE = (16, 8)
D = 5


def body(inputs, strides: int = 4):
    return L.Conv2D(6, 5, strides=strides, padding="same", activation="relu", name="conv")(inputs)


def net(head, size=SIZE, strides: int = 4, seed: int = 0):
    inputs = keras.Input((*size, 3))
    return randomised(keras.Model(inputs, head(body(inputs, strides))), seed)


def mean(x):
    return L.GlobalAveragePooling2D(name="mean")(x)


def dense(x):
    return L.Dense(D, name="dense")(mean(x))


def neck(x):
    return L.BatchNormalization(name="bn")(dense(x))


def flatten(x):
    return L.Dense(D, name="dense")(L.Flatten()(x))


HEADS = {
    "mean": mean,
    "mean, dense": dense,
    "mean, dense, batch norm": neck,
    "mean, batch norm, length one": lambda x: L.UnitNormalization()(L.BatchNormalization(name="bn")(mean(x))),
    "length one, a factor": lambda x: L.Lambda(lambda z: 30.0 * keras.ops.normalize(z, axis=1))(dense(x)),
    "flatten, dense": flatten,
    "dropout": lambda x: L.Dropout(0.4)(dense(L.SpatialDropout2D(0.3)(x))),
}


def features_of(model, pictures):
    """The feature map of conv, by a model of its own."""
    return numbers(keras.Model(model.input, model.get_layer("conv").output)(pictures)).astype("float64")


def cells_by_hand(model, pictures):
    """What each cell adds to the embedding, from the weights."""
    names = [layer.name for layer in model.layers]
    features = features_of(model, pictures)
    if any(isinstance(layer, L.Flatten) for layer in model.layers):
        return flattened_cells(features, *model.get_layer("dense").get_weights())
    return Affine(
        model.get_layer("dense").get_weights() if "dense" in names else None,
        model.get_layer("bn").get_weights() if "bn" in names else None,
    ).cells(features)


def pictures(size=SIZE, count: int = 3):
    return images(count, size, seed=1), images(count, size, seed=2)


# ----------------------------------------------------------------------------------------------------- the exact form


@pytest.mark.parametrize("head", HEADS)
def test_the_matrix_equals_sums_written_from_the_weights(head):
    model = net(HEADS[head])
    a, b = pictures()
    f, g = cells_by_hand(model, a), cells_by_hand(model, b)
    expected = pair_matrix(f, g)
    maps = similarity_maps(model, a, b)
    assert_close(maps.matrix, expected, 2e-5)
    assert_close(maps.map_a, expected.sum(axis=(3, 4)), 2e-5)
    assert_close(maps.map_b, expected.sum(axis=(1, 2)), 2e-5)
    by_hand = [cosine(one.sum(axis=(0, 1)), other.sum(axis=(0, 1))) for one, other in zip(f, g, strict=True)]
    np.testing.assert_allclose(maps.similarity, by_hand, atol=1e-5)
    assert maps.layer == "conv"
    assert {array.dtype for array in (maps.similarity, maps.map_a, maps.map_b, maps.matrix)} == {np.dtype("float32")}


@pytest.mark.parametrize(("size", "strides"), [((64, 32), 8), ((256, 128), 16), ((32, 64), 8), ((16, 8), 8)])
def test_pictures_of_all_proportions(size, strides):
    model = net(neck, size, strides)
    a, b = pictures(size, 2)
    maps = similarity_maps(model, a, b)
    grid = (size[0] // strides, size[1] // strides)
    assert maps.matrix.shape == (2, *grid, *grid)
    assert_close(maps.matrix, pair_matrix(cells_by_hand(model, a), cells_by_hand(model, b)), 2e-5)
    assert_sums_up(maps, model, a, b)


def assert_sums_up(maps, model, a, b, tolerance=1e-5):
    """All sums are the cosine of what the model returns."""
    f, g = (numbers(model(given)).astype("float64").reshape(len(given), -1) for given in (a, b))
    expected = [cosine(one, other) for one, other in zip(f, g, strict=True)]
    for total in (maps.similarity, maps.matrix.sum((1, 2, 3, 4)), maps.map_a.sum((1, 2)), maps.map_b.sum((1, 2))):
        np.testing.assert_allclose(total, expected, atol=tolerance)


def test_two_pictures_of_different_size():
    model = net(neck, (None, None))
    a, b = images(2, (16, 12), seed=1), images(2, (24, 8), seed=2)
    maps = similarity_maps(model, a, b)
    assert maps.matrix.shape == (2, 4, 3, 6, 2)
    assert_close(maps.matrix, pair_matrix(cells_by_hand(model, a), cells_by_hand(model, b)), 2e-5)
    assert_sums_up(maps, model, a, b)
    assert maps.point(3, 2).shape == (2, 6, 2)


def test_exchanging_the_pictures_exchanges_the_maps():
    model, (a, b) = net(neck), pictures()
    there, back = similarity_maps(model, a, b), similarity_maps(model, b, a)
    np.testing.assert_allclose(back.similarity, there.similarity, rtol=1e-6)
    np.testing.assert_allclose(back.map_a, there.map_b, atol=1e-6)
    np.testing.assert_allclose(back.map_b, there.map_a, atol=1e-6)
    np.testing.assert_allclose(back.matrix, there.matrix.transpose(0, 3, 4, 1, 2), atol=1e-7)


def test_a_picture_and_itself_match_symmetrically():
    model, (a, _) = net(neck), pictures()
    maps = similarity_maps(model, a, a)
    np.testing.assert_allclose(maps.similarity, 1, atol=1e-6)
    np.testing.assert_allclose(maps.matrix, maps.matrix.transpose(0, 3, 4, 1, 2), atol=1e-7)


def test_a_batch_equals_single_pairs_whatever_the_memory(monkeypatch):
    model, (a, b) = net(neck), pictures(count=5)
    maps = similarity_maps(model, a, b)
    for n in range(5):
        single = similarity_maps(model, a[n : n + 1], b[n : n + 1])
        np.testing.assert_allclose(single.matrix, maps.matrix[n : n + 1], atol=1e-6)
    explainer = Explainer(model, batch_size=2)
    for most in (1, 300):
        monkeypatch.setattr(similarity, "_MAX_NUMBERS", most)
        np.testing.assert_allclose(similarity_maps(explainer, a, b).matrix, maps.matrix, atol=1e-6)


def test_permuted_pairs_give_permuted_maps():
    model, (a, b) = net(dense), pictures(count=4)
    order = [2, 0, 3, 1]
    maps, permuted = similarity_maps(model, a, b), similarity_maps(model, a[order], b[order])
    np.testing.assert_allclose(permuted.matrix, maps.matrix[order], atol=1e-6)


def test_mirrored_pictures_give_mirrored_maps():
    """A network of 1 x 1 convolutions sees no neighbours: what is left of a picture is left of its map."""
    inputs = keras.Input((*SIZE, 3))
    model = randomised(keras.Model(inputs, dense(L.Conv2D(6, 1, activation="relu", name="conv")(inputs))))
    a, b = pictures()
    maps, mirrored = similarity_maps(model, a, b), similarity_maps(model, a[:, :, ::-1], b)
    np.testing.assert_allclose(mirrored.matrix, maps.matrix[:, :, ::-1], atol=1e-6)
    np.testing.assert_allclose(mirrored.map_b, maps.map_b, atol=1e-6)


def test_a_named_layer_in_an_explainer_is_taken_apart():
    """Two convolutions without anything between them: the earlier one is taken apart just as well."""
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(4, 4, strides=4, activation="relu", name="conv")(inputs)
    x = L.Conv2D(6, 1, name="linear")(x)
    model = randomised(keras.Model(inputs, mean(x)))
    a, b = pictures()
    kernel, bias = (np.asarray(w, "float64") for w in model.get_layer("linear").get_weights())
    parts = [Affine((kernel[0, 0], bias)).cells(features_of(model, given)) for given in (a, b)]
    for named in (
        similarity_maps(model, a, b, layer="conv"),
        similarity_maps(model, a, b, layer=model.get_layer("conv")),
        similarity_maps(Explainer(model, layer="conv", target=Class(0)), a, b),
    ):
        assert named.layer == "conv"
        assert_close(named.matrix, pair_matrix(*parts), 2e-5)
    assert similarity_maps(model, a, b).layer == "linear"


def test_one_output_of_several_is_taken_apart():
    inputs = keras.Input((*SIZE, 3))
    x = L.GlobalAveragePooling2D()(body(inputs))
    outputs = {
        "embedding": L.UnitNormalization(name="embedding")(L.Dense(D, name="dense")(x)),
        "classes": L.Dense(3, activation="softmax", name="classes")(x),
    }
    model = randomised(keras.Model(inputs, outputs))
    a, b = pictures()
    maps = similarity_maps(Explainer(model, target=Output("embedding", SelfSimilarity())), a, b)
    assert_close(maps.matrix, pair_matrix(cells_by_hand(model, a), cells_by_hand(model, b)), 2e-5)
    with pytest.raises(ValueError, match=r"Output\('embedding', "):
        similarity_maps(model, a, b)


def test_tokens_on_a_grid_are_cells():
    inputs = keras.Input((16, 8, 3))
    x = L.Conv2D(6, 4, strides=4, activation="gelu", name="patches")(inputs)
    x = L.Reshape((8, 6), name="tokens")(x)
    model = randomised(keras.Model(inputs, L.Dense(D, name="dense")(L.GlobalAveragePooling1D()(x))))
    a, b = pictures()
    laid_out = keras.Model(inputs, model.get_layer("patches").output)
    head = Affine(model.get_layer("dense").get_weights())
    expected = pair_matrix(*(head.cells(numbers(laid_out(given))) for given in (a, b)))
    maps = similarity_maps(model, a, b, layer="tokens")
    assert maps.matrix.shape == (3, 4, 2, 4, 2)
    assert_close(maps.matrix, expected, 2e-5)


def test_tokens_beside_those_of_the_grid_leave_a_rest_that_is_refused():
    """The class token takes part in the mean, but belongs to no cell."""
    inputs = keras.Input((16, 8, 3))
    x = L.Reshape((8, 6))(L.Conv2D(6, 4, strides=4, name="patches")(inputs))
    x = L.Dense(6, activation="gelu", name="tokens")(ClassToken()(x))
    model = randomised(keras.Model(inputs, L.Dense(D)(L.GlobalAveragePooling1D()(x))))
    a, b = pictures()
    with pytest.raises(ValueError, match="form='gradient'"):
        similarity_maps(model, a, b, layer="tokens")
    assert similarity_maps(model, a, b, layer="tokens", form="gradient").map_a.shape == (3, 4, 2)


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_float16", 0.03), ("mixed_bfloat16", 0.1)])
def test_sixteen_bits_are_near_thirty_two(policy, tolerance):
    def head(x):
        return L.UnitNormalization(dtype="float32")(dense(x))

    full = net(head)
    keras.config.set_dtype_policy(policy)
    half = net(head)
    half.set_weights(full.get_weights())
    a, b = pictures()
    maps = similarity_maps(half, a, b)
    expected = pair_matrix(cells_by_hand(full, a), cells_by_hand(full, b))
    assert_close(maps.matrix, expected, tolerance)
    assert_sums_up(maps, half, a, b, tolerance)


def test_a_network_that_embeds_everything_as_zero_has_maps_of_zero():
    model = net(lambda x: L.Lambda(lambda z: 0.0 * z)(dense(x)))
    a, b = pictures()
    maps = similarity_maps(model, a, b)
    np.testing.assert_array_equal(maps.similarity, 0)
    np.testing.assert_array_equal(maps.matrix, 0)


def test_whole_numbers_are_taken_as_they_are():
    model = net(neck)
    a, b = np.random.default_rng(0).integers(0, 256, (2, 2, *SIZE, 3))
    expected = similarity_maps(model, a.astype("float32"), b.astype("float32"))
    for kind in ("uint8", "int64", "float64"):
        np.testing.assert_allclose(similarity_maps(model, a.astype(kind), b).matrix, expected.matrix, atol=1e-6)


# ------------------------------------------------------------------------------------------- weights, model unchanged


def test_maps_follow_the_weights_without_a_new_trace(monkeypatch):
    made = []
    engine = type(current_engine())
    split = engine.split
    monkeypatch.setattr(engine, "split", lambda *arguments: made.append(1) or split(*arguments))
    model, (a, b) = net(neck), pictures()
    explainer = Explainer(model)
    similarity_maps(explainer, a, b)
    traced = len(made)
    assert traced > 0
    randomised(model, seed=9)
    maps = similarity_maps(explainer, a, b)
    assert len(made) == traced
    assert_close(maps.matrix, pair_matrix(cells_by_hand(model, a), cells_by_hand(model, b)), 2e-5)


def test_the_model_is_left_as_it_was():
    model, (a, b) = net(lambda x: L.UnitNormalization()(L.Dropout(0.2)(neck(x)))), pictures()
    before = Snapshot(model)
    similarity_maps(model, a, b)
    similarity_maps(model, a, b, form="gradient")
    assert before.differences(Snapshot(model)) == []


# --------------------------------------------------------------------------------------------------- what is refused


def generalised_mean(x):
    return L.Lambda(lambda z: keras.ops.mean(keras.ops.maximum(z, 1e-6) ** 3, axis=(1, 2)) ** (1 / 3))(x)


NONLINEAR = {
    "rectified": lambda x: L.Dense(D, activation="relu")(mean(x)),
    "largest": lambda x: L.Dense(D)(L.GlobalMaxPooling2D()(x)),
    "generalised mean": generalised_mean,
    "mean and largest": lambda x: L.Concatenate()([mean(x), L.GlobalMaxPooling2D()(x)]),
    "layer norm": lambda x: L.LayerNormalization()(dense(x)),
    "two layers": lambda x: L.Dense(D)(L.Dense(8, activation="tanh")(mean(x))),
    "attention over cells": lambda x: mean(
        L.Lambda(lambda z: z * keras.ops.softmax(keras.ops.sum(z, axis=-1, keepdims=True), axis=1))(x)
    ),
}


@pytest.mark.parametrize("head", NONLINEAR)
def test_heads_that_are_not_linear_are_refused_and_explained_by_the_gradient(head):
    model, (a, b) = net(NONLINEAR[head]), pictures()
    explainer = Explainer(model, layer="conv", methods="gradcam")
    with pytest.raises(ValueError, match=r"`form` must be 'gradient'.*Received: form='exact' and layer 'conv'"):
        similarity_maps(explainer, a, b)
    maps = similarity_maps(explainer, a, b, form="gradient")
    one, other = explainer(a, Similarity(b)), explainer(b, Similarity(a))
    np.testing.assert_allclose(maps.similarity, one.scores, rtol=1e-6)
    np.testing.assert_allclose(maps.map_a, one.gradcam, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(maps.map_b, other.gradcam, rtol=1e-5, atol=1e-8)
    assert maps.map_a.max() > 0
    assert maps.matrix is None
    assert maps.layer == "conv"


def test_flat_pictures_do_not_make_a_head_linear():
    """A network that sees single pixels, pictures of one colour: all cells are the same."""
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(8, 1, activation="relu", name="conv")(inputs)
    model = randomised(keras.Model(inputs, L.Dense(D, activation="relu")(mean(x))))
    flat = np.ascontiguousarray(np.broadcast_to(A[:, :1, :1], A.shape))
    with pytest.raises(ValueError, match="form='gradient'"):
        similarity_maps(model, flat, flat[::-1])


def test_one_picture_for_which_the_head_is_not_linear_is_enough_to_refuse():
    """A rectifier that lets pass what dark pictures give, and not what bright ones do."""
    model = net(lambda x: L.Dense(D, activation="relu", name="dense")(mean(x)))
    kernel, _ = model.get_layer("dense").get_weights()
    model.get_layer("dense").set_weights([-np.abs(kernel), np.ones(D)])
    dark = 1e-3 * A
    model.get_layer("conv").bias.assign(np.zeros(6))
    assert_sums_up(similarity_maps(model, dark, dark[::-1]), model, dark, dark[::-1])
    for a, b in ((np.concatenate([dark[:2], 10 * A[2:]]), dark), (dark, np.concatenate([10 * A[:1], dark[1:]]))):
        with pytest.raises(ValueError, match="form='gradient'"):
            similarity_maps(model, a, b)


def test_a_branch_past_the_layer_is_refused():
    inputs = keras.Input((*SIZE, 3))
    past = L.Dense(D, name="past")(L.GlobalAveragePooling2D()(inputs))
    model = randomised(keras.Model(inputs, L.Add()([dense(body(inputs)), past])))
    a, b = pictures()
    explainer = Explainer(model, methods="gradcam")
    with pytest.raises(ValueError, match="which a branch of the model passes by"):
        similarity_maps(explainer, a, b)
    gradient = similarity_maps(model, a, b, form="gradient")
    np.testing.assert_allclose(gradient.map_a, explainer(a, Similarity(b)).gradcam, rtol=1e-5, atol=1e-8)


def test_stripes_are_taken_apart_at_the_map_that_they_are_cut_from():
    """Part-based networks pool a map in horizontal stripes: each is behind a branch, the map is not."""

    def stripes(x):
        top, foot = L.Cropping2D(((0, 2), (0, 0)))(x), L.Cropping2D(((2, 0), (0, 0)))(x)
        return L.Concatenate()([L.GlobalAveragePooling2D()(part) for part in (top, foot)])

    model, (a, b) = net(stripes), pictures()
    with pytest.raises(ValueError, match="branch"):
        similarity_maps(model, a, b)

    def cells(given):
        features = features_of(model, given)
        parts = np.zeros((*features.shape[:3], 2 * features.shape[-1]))
        parts[:, :2, :, :6], parts[:, 2:, :, 6:] = features[:, :2] / 4, features[:, 2:] / 4
        return parts

    maps = similarity_maps(model, a, b, layer="conv")
    assert_close(maps.matrix, pair_matrix(cells(a), cells(b)), 2e-5)
    np.testing.assert_allclose(maps.matrix[:, :2, :, 2:], 0, atol=1e-7)


A, B = pictures()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((A, B), {"form": "pooled"}, "`form` must be 'exact' or 'gradient'"),
        ((A, B[:2]), {}, "must be pairs. Received: 3 and 2"),
        ((A, B[:2]), {"form": "gradient"}, "must be pairs"),
        ((A[0], B[0]), {}, r"Candidates: images\[None\]"),
        ((A[:0], B[:0]), {}, "at least one"),
        ((A[:, :8], B), {}, "shape that the model takes"),
        ((A, B), {"layer": "nowhere"}, "`layer` must name a layer"),
        ((A, B), {"layer": "dense"}, "`layer` must name a layer"),
        ((A.astype("complex64"), B), {}, "real numbers"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        similarity_maps(net(dense), *arguments, **options)


def test_an_explainer_names_the_layer_itself_and_computes_what_is_needed():
    model = net(dense)
    with pytest.raises(ValueError, match="`layer` must be given to the explainer"):
        similarity_maps(Explainer(model), A, B, layer="conv")
    with pytest.raises(ValueError, match="computes 'gradcam'"):
        similarity_maps(Explainer(model, methods="guided_backprop"), A, B, form="gradient")
    with pytest.raises(ValueError, match="`model` must be"):
        similarity_maps("a model", A, B)


# -------------------------------------------------------------------------------------------------- point and matches


def by_hand() -> SimilarityMaps:
    """Two pairs; cells 1 x 2 and 2 x 2."""
    matrix = np.array(
        [
            [[[[0.1, 0.4], [-0.2, 0.0]], [[0.3, 0.05], [0.25, -0.1]]]],
            [[[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.5]]]],
        ],
        "float32",
    )
    return SimilarityMaps(matrix.sum((1, 2, 3, 4)), matrix.sum((3, 4)), matrix.sum((1, 2)), matrix=matrix, layer="conv")


def test_the_strongest_pairs_of_cells_by_hand():
    first, second = by_hand().matches(3)
    assert [(a, b) for a, b, _ in first] == [((0, 0), (0, 1)), ((0, 1), (0, 0)), ((0, 1), (1, 0))]
    np.testing.assert_allclose([share for *_, share in first], [0.4, 0.3, 0.25], rtol=1e-6)
    assert second == [((0, 1), (1, 1), 0.5)]  # no others add anything


def test_pairs_of_cells_that_add_nothing_are_no_matches():
    assert [len(found) for found in by_hand().matches(100)] == [5, 1]


def test_the_matches_of_one_cell_by_hand():
    np.testing.assert_allclose(
        by_hand().point(0, 1), [[[0.3, 0.05], [0.25, -0.1]], [[0.0, 0.0], [0.0, 0.5]]], rtol=1e-6
    )
    np.testing.assert_array_equal(by_hand().point(-1, -2), by_hand().point(0, 0))


@pytest.mark.parametrize("cell", [(1, 0), (0, 2), (-2, 0), (0, -3)])
def test_cells_beside_the_grid_are_refused(cell):
    with pytest.raises(ValueError, match="grid of 1 x 2 cells"):
        by_hand().point(*cell)


@settings(max_examples=50, deadline=None)
@given(arrays("float32", (1, 2, 3, 3, 2), elements=st.integers(-3, 3).map(float)), st.integers(1, 40))
def test_matches_are_the_largest_of_all_in_order(matrix, count):
    maps = SimilarityMaps(matrix.sum((1, 2, 3, 4)), matrix.sum((3, 4)), matrix.sum((1, 2)), matrix, None)
    (found,) = maps.matches(count)
    everything = sorted((-float(matrix[0][index]), index) for index in np.ndindex(*matrix.shape[1:]))
    expected = [(index[:2], index[2:], -negative) for negative, index in everything[:count] if negative < 0]
    assert found == expected


def test_the_points_of_all_cells_sum_to_the_second_map():
    maps = similarity_maps(net(neck), A, B)
    total = sum(maps.point(i, j) for i in range(4) for j in range(2))
    np.testing.assert_allclose(total, maps.map_b, atol=1e-6)


def test_the_gradient_form_has_no_pairs_of_cells():
    maps = similarity_maps(net(dense), A, B, form="gradient")
    for ask in (maps.matches, lambda: maps.point(0, 0)):
        with pytest.raises(ValueError, match="must have the exact form"):
            ask()


def test_maps_are_taken_out_one_by_one():
    maps = similarity_maps(net(dense), A, B)
    for single in (maps[1], maps[1:2], maps[-2], maps[np.array([1])]):
        assert len(single) == 1
        np.testing.assert_array_equal(single.similarity, maps.similarity[1:2])
        np.testing.assert_array_equal(single.map_a, maps.map_a[1:2])
        np.testing.assert_array_equal(single.map_b, maps.map_b[1:2])
        np.testing.assert_array_equal(single.matrix, maps.matrix[1:2])
    with pytest.raises(IndexError):
        maps[3]
    assert similarity_maps(net(dense), A, B, form="gradient")[0].matrix is None
    assert repr(maps) == "SimilarityMaps(3 pairs, layer='conv', cells (4, 2) to (4, 2))"


# ---------------------------------------------------------------------------------------------- feature maps, numbers


def test_the_feature_map_is_that_of_the_network_in_any_batch():
    model = net(neck)
    features = features_of(model, A)
    expected = np.zeros(features.shape[:3])
    for n, i, j, k in np.ndindex(*features.shape):
        expected[n, i, j] += features[n, i, j, k] ** 2
    energy = np.square(Explainer(model).features(A)).sum(axis=-1)
    assert energy.dtype == np.float32
    assert_close(energy, expected)
    assert_close(np.square(Explainer(model, batch_size=2).features(A)).sum(axis=-1), expected)


def test_the_feature_map_of_a_named_layer_and_of_a_classifier():
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(4, 3, activation="relu", name="first")(inputs)
    model = randomised(keras.Model(inputs, L.Dense(3, activation="softmax")(mean(body(x)))))
    features = numbers(keras.Model(inputs, model.get_layer("first").output)(A))
    assert_close(Explainer(model, layer="first").features(A), features)
    with pytest.raises(ValueError, match="`layer` must name"):
        Explainer(model, layer="mean").features(A)


def test_the_feature_map_of_tokens_lies_on_their_grid():
    inputs = keras.Input((16, 8, 3))
    x = L.Reshape((8, 6))(L.Conv2D(6, 4, strides=4, name="patches")(inputs))
    model = randomised(keras.Model(inputs, L.GlobalAveragePooling1D()(ClassToken(name="with_token")(x))))
    patches = numbers(keras.Model(inputs, model.get_layer("patches").output)(A))
    assert_close(Explainer(model, layer="with_token").features(A), patches)


def test_weights_that_are_not_finite_are_said():
    model = net(dense)
    model.get_layer("dense").bias.assign(np.full(D, np.nan))
    with pytest.warns(RuntimeWarning, match="finite"):
        similarity_maps(model, A, B)


@tensorflow_only  # elsewhere, shapes are no tensors that are computed from the input
def test_a_head_that_reads_the_input_besides_the_feature_map_is_refused():
    class LikeTheInput(L.Layer):
        def call(self, rows, pictures):
            return keras.ops.reshape(rows, (keras.ops.shape(pictures)[0], D))

    inputs = keras.Input((*SIZE, 3))
    model = randomised(keras.Model(inputs, LikeTheInput()(dense(body(inputs)), inputs)))
    with pytest.raises(ValueError, match="a branch of the model passes by"):
        similarity_maps(model, A, B)


def test_a_batch_norm_neck_in_bfloat16_is_linear():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = net(lambda x: L.Activation("linear", dtype="float32")(neck(x)), strides=1)
    assert_sums_up(similarity_maps(model, A, B), model, A, B, 0.1)


def test_a_large_constant_does_not_hide_that_a_head_is_not_linear():
    model = net(lambda x: L.BatchNormalization(name="bn")(L.Dense(D, activation="relu", name="dense")(mean(x))))
    model.get_layer("bn").beta.assign(np.full(D, 1000.0))
    with pytest.raises(ValueError, match="form='gradient'"):
        similarity_maps(model, A, B)


@pytest.mark.parametrize("form", ["exact", "gradient"])
def test_a_sum_of_targets_of_one_output_names_that_output(form):
    inputs = keras.Input((*SIZE, 3))
    x = mean(body(inputs))
    model = keras.Model(inputs, {"e": L.Dense(D, name="e")(x), "c": L.Dense(3, name="c")(x)})
    target = Output("e", SelfSimilarity()) + Output("e", SelfSimilarity())
    assert len(similarity_maps(Explainer(model, target=target), A, B, form=form)) == 3


@pytest.mark.parametrize("count", [-1, 1.5])
def test_a_number_of_matches_that_is_none_is_refused(count):
    with pytest.raises(ValueError, match="`count` must"):
        by_hand().matches(count)


@pytest.mark.parametrize("after", [lambda z: z, L.Flatten()], ids=["(2, 3)", "flattened"])
def test_parts_normalised_each_by_itself_are_refused_or_give_the_similarity_of_the_embeddings(after):
    """An embedding in parts, each of length one, as of a network that pools stripes."""
    model = net(lambda x: after(L.UnitNormalization(axis=-1)(L.Reshape((2, 3))(L.Dense(6)(mean(x))))))
    try:
        maps = similarity_maps(model, A, B)
    except ValueError:
        return
    assert_sums_up(maps, model, A, B)
