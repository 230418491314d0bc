"""Targets for embeddings: numbers by hand, gradients against finite differences and tapes, references of all kinds."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from backends import BACKEND, compiled_only, numbers, tensor, tensorflow_only
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import layers as L  # noqa: N812
from keras import ops
from models import images, randomised
from oracles import assert_close, gradcam_by_hand, plain_gradcam
from oracles_reid import Affine, cosine, distance, dot, length, numeric_gradient
from spelling import spelled

from keras_gradcam import (
    Class,
    Distance,
    Dot,
    Explainer,
    Norm,
    Output,
    SelfSimilarity,
    Similarity,
    Target,
    Triplet,
    Unit,
    explain,
)
from keras_gradcam.engine import current_engine
from keras_gradcam.engine.base import Outputs

# ------------------------------------------------------------------------------------------------------ scores by hand

EMBEDDINGS = np.array([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]], "float32")


def outputs(predictions, pre_normalization=None, names=()):
    given = tensor(predictions)
    return Outputs(given, given, "", given if pre_normalization is None else tensor(pre_normalization), names)


def evaluate(target, of, samples):
    """Scores as an engine asks for them."""
    target.check(of)
    values = [tensor(array) for array in target.arguments(samples)]
    assert len(values) == target.num_arguments
    return numbers(target.scores(of, values))


ROOT = np.sqrt


@pytest.mark.parametrize(
    ("target", "scores"),
    [
        (Similarity([0.0, 1.0]), [0.8, 1.0, 0.0]),
        (Similarity([0.0, 50.0]), [0.8, 1.0, 0.0]),
        (Similarity([-3.0, -4.0]), [-1.0, -0.8, 0.6]),
        (Similarity([[4.0, 3.0], [0.0, -1.0], [1.0, 1.0]]), [0.96, -1.0, -1 / ROOT(2)]),
        (Dot([2.0, -1.0]), [2.0, -2.0, -2.0]),
        (Dot([[1.0, 1.0], [0.0, 3.0], [5.0, 0.0]]), [7.0, 6.0, -5.0]),
        (Distance([3.0, 0.0]), [-4.0, -ROOT(13), -4.0]),
        (Distance([[0.0, 0.0], [0.0, 2.0], [2.0, 4.0]]), [-5.0, 0.0, -5.0]),
        (Triplet([3.0, 4.0], [0.0, 2.0]), [ROOT(13), -ROOT(13), ROOT(5) - ROOT(32)]),
        (Triplet([3.0, 4.0], [[3.0, 0.0], [0.0, 0.0], [-1.0, 0.0]]), [4.0, 2 - ROOT(13), -ROOT(32)]),
        (Norm(), [5.0, 2.0, 1.0]),
        (SelfSimilarity(), [5.0, 2.0, 1.0]),
        (Unit(1), [4.0, 2.0, 0.0]),
        (-Similarity([0.0, 1.0]), [-0.8, -1.0, 0.0]),
        (-Distance([3.0, 0.0]), [4.0, ROOT(13), 4.0]),
        (Similarity([0.0, 1.0]) - Similarity([1.0, 0.0]), [0.2, 1.0, 1.0]),
        (2 * Dot([1.0, 0.0]) + Norm() - Unit(0), [8.0, 2.0, 0.0]),
        (Triplet([3.0, 4.0], [0.0, 2.0]) - 3 * Dot([0.0, 1.0]), [ROOT(13) - 12, -ROOT(13) - 6, ROOT(5) - ROOT(32)]),
        (Output(0, Similarity([0.0, 1.0])), [0.8, 1.0, 0.0]),
        (Output("emb", Distance([3.0, 0.0]) + Norm()), [1.0, 2 - ROOT(13), -3.0]),
    ],
    ids=lambda value: repr(value) if isinstance(value, Target) else "",
)
def test_scores_computed_by_hand(target, scores):
    np.testing.assert_allclose(evaluate(target, outputs(EMBEDDINGS, names=("emb",)), 3), scores, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("target", [Norm(), SelfSimilarity()])
def test_lengths_are_measured_before_a_normalisation(target):
    unit = EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=1, keepdims=True)
    np.testing.assert_allclose(evaluate(target, outputs(unit, EMBEDDINGS), 3), [5.0, 2.0, 1.0], rtol=1e-6)


def test_embeddings_with_further_axes_are_read_as_vectors():
    tall = outputs(EMBEDDINGS[:, None, None, :])
    np.testing.assert_allclose(evaluate(Similarity([0.0, 1.0]), tall, 3), [0.8, 1.0, 0.0], atol=1e-7)
    np.testing.assert_allclose(evaluate(SelfSimilarity(), tall, 3), [5.0, 2.0, 1.0], rtol=1e-6)


FINITE = st.floats(-100, 100, width=32).map(lambda x: 0.0 if abs(x) < 1e-3 else x)


@settings(max_examples=60, deadline=None)
@given(arrays("float32", (2, 4), elements=FINITE), arrays("float32", (2, 4), elements=FINITE))
def test_scores_of_any_vectors_equal_the_slow_ones(f, r):
    for target, slow in (
        (Similarity(r), cosine),
        (Dot(r), dot),
        (Distance(r), lambda one, other: -distance(one, other)),
        (Triplet(r, -r), lambda one, other: distance(one, -other) - distance(one, other)),
        (Norm(), lambda one, other: length(one)),
        (SelfSimilarity(), lambda one, other: length(one)),
    ):
        size = 1 + max(length(f[0]), length(f[1])) * max(length(r[0]), length(r[1]), 1)
        expected = [slow(f[n], r[n]) for n in range(2)]
        np.testing.assert_allclose(
            evaluate(target, outputs(f), 2), expected, atol=1e-6 * (1 if slow is cosine else size), err_msg=repr(target)
        )


# ----------------------------------------------------------------------------------- gradients by finite differences

TINY = (4, 6)
D = 4


def tiny(head, seed: int = 0, policy: str = "float32"):
    """Two cells by three with four channels, and a head."""
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((*TINY, 3))
    x = L.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv")(inputs)
    return randomised(keras.Model(inputs, head(x)), seed)


def mean(x):
    return L.GlobalAveragePooling2D(name="mean")(x)


def dense(x):
    return L.Dense(D, name="dense")(mean(x))


def neck(x):
    return L.BatchNormalization(name="bn")(dense(x))


def own_normalize(z):
    """Vectors of length one by the backend's own function, where it has one."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.math.l2_normalize(z, axis=1)
    if BACKEND == "torch":
        import torch

        return torch.nn.functional.normalize(z, dim=1)
    return z / keras.ops.sqrt(keras.ops.maximum(keras.ops.sum(z * z, axis=1, keepdims=True), 1e-12))


HEADS = {
    "mean": mean,
    "dense": dense,
    "batch norm neck": neck,
    "UnitNormalization": lambda x: L.UnitNormalization()(neck(x)),
    "the backend's own": lambda x: L.Lambda(own_normalize)(neck(x)),
    "division by norm": lambda x: L.Lambda(lambda z: z / keras.ops.norm(z, axis=1, keepdims=True))(neck(x)),
    "ops.normalize": lambda x: L.Lambda(keras.ops.normalize)(neck(x)),
    "a factor after it": lambda x: L.Lambda(lambda z: 16.0 * own_normalize(z))(dense(x)),
    "four axes": lambda x: L.UnitNormalization(axis=-1)(
        L.Conv2D(D, 1, name="dense")(L.GlobalAveragePooling2D(keepdims=True)(x))
    ),
}
#: What such heads multiply a vector of length one with; None where they do not normalise.
FACTORS = {
    **dict.fromkeys(("mean", "dense", "batch norm neck")),
    **dict.fromkeys(("UnitNormalization", "the backend's own", "division by norm", "ops.normalize", "four axes"), 1.0),
    "a factor after it": 16.0,
}


def features_of(model, pictures):
    """The feature map of conv, by a model of its own."""
    return numbers(keras.Model(model.input, model.get_layer("conv").output)(pictures)).astype("float64")


class Head:
    """What a model makes of its feature map, in NumPy and float64."""

    def __init__(self, model, factor):
        names = [layer.name for layer in model.layers]
        weights = [np.asarray(w) for w in model.get_layer("dense").get_weights()] if "dense" in names else None
        if weights is not None and weights[0].ndim == 4:
            weights[0] = weights[0][0, 0]
        self.raw = Affine(weights, model.get_layer("bn").get_weights() if "bn" in names else None)
        self.factor = factor

    def __call__(self, features):
        z = self.raw(features)
        return z if self.factor is None else self.factor * z / np.linalg.norm(z, axis=1, keepdims=True)


def numpy_scores(name, head, features, r):
    """features -> scores, for references r and the embeddings that ``features`` have now."""
    raw = head.raw(features)
    held = raw / np.linalg.norm(raw, axis=1, keepdims=True)  # SelfSimilarity's direction, which does not move along

    def cosines(f, r):
        return [cosine(one, other) for one, other in zip(f, r, strict=True)]

    def distances(f, r):
        return np.array([distance(one, other) for one, other in zip(f, r, strict=True)])

    return {
        "Similarity": lambda a: cosines(head(a), r),
        "minus Similarity": lambda a: -np.array(cosines(head(a), r)),
        "Dot": lambda a: np.sum(head(a) * r, axis=1),
        "Distance": lambda a: -distances(head(a), r),
        "Triplet": lambda a: distances(head(a), np.roll(r, 1, 0)) - distances(head(a), r),
        "SelfSimilarity": lambda a: np.sum(head.raw(a) * held, axis=1),
        "Norm": lambda a: np.linalg.norm(head.raw(a), axis=1),
        "Unit": lambda a: head(a)[:, 1],
        "a sum": lambda a: 2 * np.sum(head(a) * r, axis=1) - distances(head(a), np.roll(r, 1, 0)) + head(a)[:, 0],
    }[name]


def package_target(name, r):
    return {
        "Similarity": lambda: Similarity(r),
        "minus Similarity": lambda: -Similarity(r),
        "Dot": lambda: Dot(r),
        "Distance": lambda: Distance(r),
        "Triplet": lambda: Triplet(r, np.roll(r, 1, 0)),
        "SelfSimilarity": lambda: SelfSimilarity(),
        "Norm": lambda: Norm(),
        "Unit": lambda: Unit(1),
        "a sum": lambda: 2 * Dot(r) + Distance(np.roll(r, 1, 0)) + Unit(0),
    }[name]()


def assert_finite_differences_agree(model, factor, name, tolerance=2e-4):
    pictures, others = images(3, TINY), images(3, TINY, seed=2)
    features, head = features_of(model, pictures), Head(model, factor)
    r = head(features_of(model, others))
    scores = numpy_scores(name, head, features, r)
    target = package_target(name, r.astype("float32"))
    result = Explainer(model, layer="conv", methods="gradcam")(pictures, target)
    assert_close(result.scores, scores(features), tolerance)
    gradient = numeric_gradient(scores, features)
    assert_close(result.gradcam, gradcam_by_hand(features, gradient), tolerance)


@pytest.mark.parametrize(
    "name",
    ["Similarity", "minus Similarity", "Dot", "Distance", "Triplet", "SelfSimilarity", "Norm", "Unit", "a sum"],
)
def test_maps_of_all_targets_equal_finite_differences(name):
    assert_finite_differences_agree(tiny(HEADS["batch norm neck"]), None, name)


@pytest.mark.parametrize("name", ["Similarity", "SelfSimilarity"])
@pytest.mark.parametrize("head", [name for name in HEADS if name not in ("batch norm neck", "dense")])
def test_maps_behind_all_heads_equal_finite_differences(head, name):
    assert_finite_differences_agree(tiny(HEADS[head]), FACTORS[head], name)


def test_maps_in_sixteen_bits_are_near_those_in_thirty_two():
    def head(x):
        return L.UnitNormalization(dtype="float32")(neck(x))

    full = tiny(head)
    pictures, others = images(3, TINY), images(3, TINY, seed=2)
    target = Similarity(others) + SelfSimilarity()
    expected = explain(full, pictures, target=target, methods="gradcam")
    for policy, tolerance in (("mixed_float16", 0.01), ("mixed_bfloat16", 0.08)):
        half = tiny(head, policy=policy)
        half.set_weights(full.get_weights())
        result = explain(half, pictures, target=target, methods="gradcam")
        assert_close(result.scores, expected.scores, tolerance)
        assert_close(result.gradcam, expected.gradcam, tolerance)


# ----------------------------------------------------------------------------------- gradients by a tape, large network


@pytest.fixture(scope="module")
def large():
    """A backbone for pictures of people, and with batch norm neck and length one on it."""
    base = keras.applications.MobileNetV2((128, 64, 3), alpha=0.35, include_top=False, weights=None)
    x = L.BatchNormalization(name="neck")(L.GlobalAveragePooling2D()(base.output))
    model = randomised(keras.Model(base.input, L.UnitNormalization()(x)))
    # As after training: pictures are told apart by what differs from their mean.
    pooled = numbers(base(images(16, base.input_shape[1:3]), training=False)).mean(axis=(1, 2))
    gamma, beta, *_ = model.get_layer("neck").get_weights()
    model.get_layer("neck").set_weights([gamma, beta, pooled.mean(axis=0), pooled.var(axis=0)])
    return base, model


def test_maps_of_a_large_network_equal_a_tape(large):
    base, model = large
    size = base.input_shape[1:3]
    pictures, positives, negative = (images(count, size, seed=seed) for count, seed in ((4, 5), (4, 6), (1, 7)))
    gamma, beta, moving_mean, variance = (tensor(w) for w in model.get_layer("neck").get_weights())

    def raw(features):
        z = ops.mean(features, axis=(1, 2))
        return gamma * (z - moving_mean) / ops.sqrt(variance + 1e-3) + beta

    def embedding(features):
        return raw(features) / ops.norm(raw(features), axis=1, keepdims=True)

    def apart(f, r):
        return ops.sqrt(ops.sum((f - r) ** 2, axis=1))

    def features(given):
        return base(given, training=False)

    p, n = embedding(features(positives)), embedding(features(negative))
    held = embedding(features(pictures))

    def head(a):
        similarity = ops.sum(embedding(a) * p, axis=1)
        triplet = apart(embedding(a), n) - apart(embedding(a), p)
        return similarity + 2 * triplet + 0.1 * ops.sum(raw(a) * held, axis=1)

    target = Similarity(positives) + 2 * Triplet(positives, negative) + 0.1 * SelfSimilarity()
    result, expected = (
        explain(model, pictures, target=target, methods="gradcam"),
        plain_gradcam(features, head, pictures),
    )
    assert result.layer == base.layers[-1].name
    assert_close(result.scores, expected.scores, 1e-4)
    assert_close(result.gradcam, expected.gradcam, 2e-3)


# ----------------------------------------------------------------------------------------------------------- references


@pytest.fixture(scope="module")
def model():
    return tiny(HEADS["batch norm neck"])


@pytest.fixture(scope="module")
def explainer(model):
    return Explainer(model, methods="gradcam")


PICTURES, OTHERS = images(3, TINY), images(3, TINY, seed=2)
WHOLE = np.random.default_rng(4).integers(0, 256, (3, *TINY, 3))


@pytest.fixture(scope="module")
def embedded(model):
    """What the oracle makes of the pictures above: of themselves, of the others, of whole numbers."""
    head = Head(model, None)
    return tuple(head(features_of(model, given.astype("float32"))) for given in (PICTURES, OTHERS, WHOLE))


@pytest.mark.parametrize(
    ("reference", "which"),
    [
        (OTHERS, [0, 1, 2]),
        (OTHERS.astype("float64"), [0, 1, 2]),
        (list(OTHERS), [0, 1, 2]),
        (OTHERS.tolist(), [0, 1, 2]),
        (tuple(OTHERS), [0, 1, 2]),
        (tensor(OTHERS), [0, 1, 2]),
        (OTHERS[1:2], [1, 1, 1]),
        (OTHERS[2], [2, 2, 2]),
    ],
    ids=["pictures", "float64", "a list", "nested lists", "a tuple", "a tensor", "one picture", "without batch axis"],
)
def test_reference_pictures_of_all_kinds(explainer, embedded, reference, which):
    f, r, _ = embedded
    expected = [cosine(f[n], r[which[n]]) for n in range(3)]
    assert_close(explainer(PICTURES, Similarity(reference)).scores, expected, 1e-5)
    assert_close(explainer.score(PICTURES, Distance(reference)), [-distance(f[n], r[which[n]]) for n in range(3)])


@pytest.mark.parametrize("kind", ["uint8", "int32", "int64", "float32"])
def test_references_of_whole_numbers_are_embedded_as_they_are(explainer, embedded, kind):
    f, _, r = embedded
    expected = [cosine(f[n], r[n]) for n in range(3)]
    assert_close(explainer.score(PICTURES, Similarity(WHOLE.astype(kind))), expected, 1e-5)


@pytest.mark.parametrize(
    ("shape", "which"),
    [("(N, D)", [0, 1, 2]), ("(1, D)", [1, 1, 1]), ("(D,)", [2, 2, 2]), ("a list", [0, 1, 2]), ("bfloat16", [0, 1, 2])],
)
def test_reference_embeddings_of_all_kinds(explainer, embedded, shape, which):
    f, r, _ = embedded
    reference = {
        "(N, D)": r,
        "(1, D)": r[1:2],
        "(D,)": r[2],
        "a list": r.tolist(),
        "bfloat16": tensor(r, "bfloat16"),
    }[shape]
    expected = [cosine(f[n], r[which[n]]) for n in range(3)]
    assert_close(explainer(PICTURES, Similarity(reference)).scores, expected, 1e-2 if shape == "bfloat16" else 1e-5)


def test_pictures_and_their_embeddings_are_the_same_reference(explainer):
    """Also in a triplet, one of each kind."""
    rows = explainer.embed(OTHERS)
    first = explainer(PICTURES, Triplet(OTHERS, rows[0]))
    second = explainer(PICTURES, Triplet(rows, OTHERS[:1]))
    assert_close(first.scores, second.scores)
    assert_close(first.gradcam, second.gradcam)


def test_no_gradient_flows_through_a_reference():
    """The inner product with the own embedding: through both factors the gradient would be twice as large."""
    model = tiny(HEADS["batch norm neck"])
    features, head = features_of(model, PICTURES), Head(model, None)
    fixed = head(features)
    with_reference = gradcam_by_hand(features, numeric_gradient(lambda a: np.sum(head(a) * fixed, axis=1), features))
    through_both = gradcam_by_hand(features, numeric_gradient(lambda a: np.sum(head(a) ** 2, axis=1), features))
    result = explain(model, PICTURES, target=Dot(PICTURES), methods="gradcam")
    assert_close(result.gradcam, with_reference, 2e-4)
    assert_close(through_both, 2 * with_reference, 1e-6)


def test_a_batch_equals_single_pictures(model, explainer):
    target = Triplet(OTHERS, np.roll(OTHERS, 1, 0))
    result = explainer(PICTURES, target)
    portions = Explainer(model, methods="gradcam", batch_size=2)(PICTURES, target)
    assert_close(portions.gradcam, result.gradcam)
    for n in range(3):
        single = explainer(PICTURES[n : n + 1], Triplet(OTHERS[n], OTHERS[n - 1]))
        assert_close(single.scores, result.scores[n : n + 1])
        np.testing.assert_allclose(single.gradcam, result.gradcam[n : n + 1], rtol=1e-4, atol=1e-6)


def test_a_similarity_does_not_depend_on_the_length_of_the_reference(explainer, embedded):
    one, other = (explainer(PICTURES, Similarity(factor * embedded[1])) for factor in (1.0, 1000.0))
    assert_close(other.scores, one.scores)
    assert_close(other.gradcam, one.gradcam)


def test_guided_backpropagation_takes_the_similarity_too(model, embedded):
    """The only rectifier stands before the linear head, so the guided gradient has the gates and no negative parts."""
    result = explain(model, PICTURES, target=Dot(embedded[1]))
    plain = plain_gradcam(
        lambda x: keras.Model(model.input, model.get_layer("conv").output)(x),
        lambda a: ops.sum(
            model.get_layer("bn")(model.get_layer("dense")(ops.mean(a, axis=(1, 2))), training=False)
            * tensor(embedded[1].astype("float32")),
            axis=1,
        ),
        PICTURES,
    )
    upstream = np.maximum(plain.gradients, 0) * (plain.activations > 0)
    kernel = numbers(model.get_layer("conv").kernel)
    expected = numbers(ops.conv_transpose(upstream.astype("float32"), kernel, 2, "same"))
    assert_close(result.guided_backprop, expected)


# ------------------------------------------------------------------------------------------------------ several outputs


@pytest.fixture(scope="module")
def two_headed():
    inputs = keras.Input((*TINY, 3))
    x = L.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv")(inputs)
    x = mean(x)
    embedding = L.UnitNormalization(name="embedding")(L.Dense(D, name="dense")(x))
    classes = L.Dense(3, activation="softmax", name="classes")(x)
    return randomised(keras.Model(inputs, {"embedding": embedding, "classes": classes}))


@pytest.mark.parametrize("make", [Similarity, lambda r: Triplet(r, r[:1]), lambda r: SelfSimilarity()])
def test_one_output_of_several_is_explained_like_a_model_of_its_own(two_headed, make):
    alone = keras.Model(two_headed.input, two_headed.output["embedding"])
    expected = explain(alone, PICTURES, target=make(OTHERS), methods="gradcam")
    result = explain(two_headed, PICTURES, target=Output("embedding", make(OTHERS)), methods="gradcam")
    assert_close(result.scores, expected.scores)
    assert_close(result.gradcam, expected.gradcam)


def test_embedding_and_class_are_explained_together(two_headed):
    explainer = Explainer(two_headed, methods="gradcam")
    similarity, of_class = Output("embedding", Similarity(OTHERS)), Output("classes", Class(2))
    both = explainer(PICTURES, similarity - 0.5 * of_class)
    assert_close(both.scores, explainer.score(PICTURES, similarity) - 0.5 * explainer.score(PICTURES, of_class))


def test_the_embedding_of_the_named_output_is_returned(two_headed):
    rows = Explainer(two_headed, target=Output("embedding", SelfSimilarity())).embed(OTHERS)
    np.testing.assert_allclose(rows, numbers(two_headed(OTHERS)["embedding"]), rtol=1e-5, atol=1e-7)


# ------------------------------------------------------------------------------------------ own embedding, zero, length


@pytest.mark.parametrize("head", ["batch norm neck", "the backend's own", "four axes"])
def test_self_similarity_has_a_map_where_similarity_with_oneself_has_none(head):
    explainer = Explainer(tiny(HEADS[head]), methods="gradcam")
    shaped = explainer(PICTURES, SelfSimilarity())
    with pytest.warns(UserWarning, match=r"SelfSimilarity\(\)"):
        own = explainer(PICTURES, Similarity(PICTURES))
    np.testing.assert_allclose(own.scores, 1, rtol=1e-5)
    assert (shaped.gradcam.max(axis=(1, 2)) > 1e-3).all()
    assert own.gradcam.max() < 1e-5 * shaped.gradcam.max()


def test_a_similarity_with_others_is_not_warned_of(explainer):
    explainer(PICTURES, Similarity(OTHERS))  # warnings are errors


def test_one_own_picture_in_a_batch_is_warned_of(explainer):
    with pytest.warns(UserWarning, match="own embedding"):
        explainer(PICTURES, Similarity(np.concatenate([OTHERS[:2], PICTURES[2:]])))


def test_an_own_picture_in_one_of_several_outputs_is_warned_of(two_headed):
    with pytest.warns(UserWarning, match=r"SelfSimilarity\(\)"):
        explain(two_headed, PICTURES, target=Output("embedding", Similarity(PICTURES)), methods="gradcam")


@pytest.mark.parametrize("head", ["mean", "batch norm neck", "UnitNormalization"])
def test_self_similarity_and_norm_are_the_same(head):
    explainer = Explainer(tiny(HEADS[head]), methods="gradcam")
    one, other = explainer(PICTURES, SelfSimilarity()), explainer(PICTURES, Norm())
    assert_close(one.scores, other.scores)
    assert_close(one.gradcam, other.gradcam)


def nothing(head):
    """A network whose embeddings are zero whatever the picture."""

    def silent(x):
        return L.Lambda(lambda z: 0.0 * z, name="silence")(head(x))

    return tiny(silent)


@pytest.mark.parametrize(
    "target",
    [Similarity(np.ones(D)), Dot(np.ones(D)), Distance(np.ones(D)), Triplet(np.ones(D), -np.ones(D)), Norm()],
    ids=spelled,
)
def test_embeddings_of_zero_give_finite_maps_of_zero(target):
    result = explain(nothing(dense), PICTURES, target=target, methods="gradcam")
    assert np.isfinite(result.scores).all()
    np.testing.assert_array_equal(result.gradcam, np.zeros((3, 2, 3)))


@pytest.mark.parametrize(
    ("head", "target"),
    [
        ("UnitNormalization", Norm()),
        # Keras' own gradient of it is finite on TensorFlow alone.
        pytest.param("UnitNormalization", Similarity(np.ones(D)), marks=tensorflow_only),
        ("the backend's own", SelfSimilarity()),
        ("the backend's own", Distance(np.ones(D)) - Distance(-np.ones(D))),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:All embeddings have one length")
def test_a_feature_map_of_zero_is_finite_behind_a_normalisation(head, target):
    """Without biases: the embedding is zero, and its length has no gradient there."""
    model = tiny(lambda x: normalised(head, x))
    model.get_layer("conv").bias.assign(np.full(4, -100.0))
    result = explain(model, PICTURES, target=target, methods="gradcam")
    np.testing.assert_array_equal(result.scores, 0)
    np.testing.assert_array_equal(result.gradcam, 0)


def normalised(head, x):
    x = L.Dense(D, use_bias=False)(mean(x))
    if head == "UnitNormalization":
        return L.UnitNormalization()(x)
    return L.Lambda(own_normalize)(x)


def test_a_reference_of_zero_is_similar_to_nothing(explainer):
    result = explainer(PICTURES, Similarity(np.zeros(D)))
    np.testing.assert_array_equal(result.scores, 0)
    np.testing.assert_array_equal(result.gradcam, 0)


def test_a_distance_of_zero_has_a_finite_map_and_a_warning(model, explainer):
    with pytest.warns(UserWarning, match=r"own embedding.*\(`reference`\).*no gradient"):
        result = explainer(PICTURES, Distance(explainer.embed(PICTURES)))
    np.testing.assert_array_equal(result.scores, 0)
    np.testing.assert_array_equal(result.gradcam, 0)


# --------------------------------------------------------------------------------------------- current weights


class Counting(L.Layer):
    """Counts how often it is traced."""

    def __init__(self, **options):
        super().__init__(**options)
        self.traces = []

    def call(self, inputs):
        self.traces.append(1)
        return inputs


@compiled_only
def test_references_follow_the_weights_without_a_new_trace():
    inputs = keras.Input((*TINY, 3))
    x = L.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv")(inputs)
    counting = Counting()
    model = randomised(keras.Model(inputs, dense(counting(x))))
    model.compile(keras.optimizers.SGD(0.05), "mse")
    explainer = Explainer(model, target=Similarity(OTHERS), methods="gradcam")
    before = explainer(PICTURES)
    model.fit(PICTURES, np.ones((3, D)), epochs=2, batch_size=3, verbose=0)
    traces = len(counting.traces)
    after = explainer(PICTURES)
    assert len(counting.traces) == traces, "the model was traced again"
    features, head = features_of(model, PICTURES), Head(model, None)
    r = head(features_of(model, OTHERS))
    assert_close(after.scores, [cosine(f, g) for f, g in zip(head(features), r, strict=True)])
    gradient = numeric_gradient(numpy_scores("Similarity", head, features, r), features)
    assert_close(after.gradcam, gradcam_by_hand(features, gradient), 2e-4)
    assert np.abs(after.scores - before.scores).max() > 1e-4


def test_other_references_and_counts_are_not_traced_again(monkeypatch):
    made = []
    engine = type(current_engine())
    trace = engine.trace
    monkeypatch.setattr(engine, "trace", lambda *arguments: made.append(1) or trace(*arguments))
    explainer = Explainer(tiny(HEADS["dense"]), methods="gradcam")
    explainer(PICTURES, Similarity(OTHERS))
    traced = len(made)
    assert traced > 0
    for count in (1, 3):
        pictures = images(count, TINY, seed=count)
        explainer(pictures, Similarity(OTHERS[:1]))
        explainer(pictures, Similarity(images(count, TINY, seed=8)))
        explainer(pictures, Similarity(np.arange(D)))
    assert len(made) == traced


def test_embeddings_given_once_do_not_follow_the_weights():
    model = tiny(HEADS["dense"])
    explainer = Explainer(model, methods="gradcam")
    rows = explainer.embed(OTHERS)
    explainer = Explainer(model, target=Distance(rows), methods="gradcam")
    model.get_layer("dense").bias.assign_add(np.full(D, 3.0))
    moved = Head(model, None)(features_of(model, PICTURES))
    assert_close(explainer(PICTURES).scores, [-distance(f, r) for f, r in zip(moved, rows, strict=True)])


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "reference",
    ["abc", [], [[1.0, 2.0], [3.0]], 1.0, object(), iter([1.0]), np.array([1j]), np.zeros((0, 4)), [None, None]],
    ids=spelled,
)
@pytest.mark.parametrize("make", [Similarity, Dot, Distance, lambda r: Triplet(r, [1.0]), lambda r: Triplet([1.0], r)])
def test_references_that_are_no_numbers_are_refused(make, reference):
    with pytest.raises(ValueError, match=r"`(reference|positive|negative)` must be"):
        make(reference)


@pytest.mark.parametrize("reference", [[np.nan, 1.0], [[1.0, np.inf]]])
def test_embeddings_that_are_not_finite_are_refused(reference):
    with pytest.raises(ValueError, match="`reference` must be finite"):
        Similarity(reference)


@pytest.mark.parametrize("given", [(None, [1.0]), ([1.0], None)])
def test_a_triplet_needs_both_references(given):
    with pytest.raises(ValueError, match=r"`(positive|negative)` must be pictures or embeddings"):
        Triplet(*given)


@pytest.mark.parametrize("make", [Similarity, Dot, Distance])
def test_a_missing_reference_is_refused_with_its_name(explainer, make):
    with pytest.raises(ValueError, match="`reference` must be given"):
        explainer(PICTURES, make())


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (np.ones(D + 1), f"as long as the model's, {D}"),
        (np.ones((2, D)), "one for all pictures or one for each. Received: 2 for 3"),
        (OTHERS[:2], "one for all pictures or one for each. Received: 2 for 3"),
        (OTHERS[:, :2], "shape that the model takes"),
        (OTHERS[..., :1], "shape that the model takes"),
    ],
)
def test_references_that_do_not_fit_are_refused(explainer, reference, message):
    with pytest.raises(ValueError, match=message):
        explainer(PICTURES, Similarity(reference))
    with pytest.raises(ValueError, match=message):
        explainer.score(PICTURES, Similarity(reference))


@pytest.mark.parametrize("target", [Similarity(np.ones(D)), SelfSimilarity(), Norm(), Distance(OTHERS)], ids=spelled)
def test_one_of_several_outputs_must_be_named(two_headed, target):
    with pytest.raises(ValueError, match=r"Output\('embedding', "):
        explain(two_headed, PICTURES, target=target)


def test_an_output_without_a_vector_per_picture_is_refused():
    flat = outputs(np.ones(3, "float32"))
    for target in (Similarity([1.0]), Norm(), SelfSimilarity()):
        with pytest.raises(ValueError, match="must fit the model's output"):
            target.check(flat)


def test_a_class_of_a_normalised_embedding_is_refused():
    with pytest.raises(ValueError, match="L2-normalised"):
        explain(tiny(HEADS["UnitNormalization"]), PICTURES, target=Class(0))


def test_pictures_need_a_model():
    with pytest.raises(ValueError, match="`reference` must be embeddings here"):
        Similarity(OTHERS).arguments(3)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Similarity(OTHERS), "Similarity(pictures (3, 4, 6, 3))"),
        (Dot(np.ones(D)), "Dot(embedding (1, 4))"),
        (Triplet(OTHERS, np.ones(D)), "Triplet(pictures (3, 4, 6, 3), embedding (1, 4))"),
        (Similarity(), "Similarity()"),
        (-Norm() + SelfSimilarity(), "-Norm() + SelfSimilarity()"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_targets_say_what_they_hold(target, said):
    assert repr(target) == said


def test_weights_that_are_not_finite_are_warned_of():
    model = tiny(HEADS["dense"])
    model.get_layer("dense").bias.assign(np.full(D, np.nan))
    with pytest.warns(RuntimeWarning, match="not finite"):
        result = explain(model, PICTURES, target=SelfSimilarity(), methods="gradcam")
    assert np.isnan(result.scores).all()


def shares(z):
    return z / keras.ops.sum(z, axis=1, keepdims=True)


@pytest.mark.parametrize("before", [keras.ops.exp, keras.ops.relu, keras.ops.square])
def test_outputs_that_sum_to_one_are_classes(before):
    model = tiny(lambda x: L.Lambda(lambda z: shares(before(z)))(dense(x)))
    result = explain(model, PICTURES, target=Class(2, logits=False), methods="gradcam")
    np.testing.assert_allclose(result.scores, numbers(model(PICTURES))[:, 2], rtol=1e-5)


def test_only_a_normalisation_is_looked_through():
    model = tiny(lambda x: L.Lambda(lambda z: z * keras.ops.sum(z * z, axis=1, keepdims=True))(dense(x)))
    result = explain(model, PICTURES, target=Norm(), methods="gradcam")
    np.testing.assert_allclose(result.scores, np.linalg.norm(numbers(model(PICTURES)), axis=1), rtol=1e-5)


AFTER = {
    "Rescaling": L.Rescaling(64.0),
    "Flatten": L.Flatten(),
    "Reshape": L.Reshape((2, 2)),
    "a factor of shape (1,)": L.Lambda(lambda z: z * ops.convert_to_tensor([64.0])),
}


@pytest.fixture(scope="module")
def unit_length():
    """A network that ends in a normalisation, and the map of its length."""
    plain = tiny(HEADS["UnitNormalization"])
    return plain, explain(plain, PICTURES, target=SelfSimilarity(), methods="gradcam").gradcam


@pytest.mark.parametrize("after", AFTER)
def test_a_normalisation_is_found_behind_what_keeps_its_length(unit_length, after):
    plain, expected = unit_length
    model = keras.Model(plain.input, AFTER[after](plain.output))
    assert_close(explain(model, PICTURES, target=SelfSimilarity(), methods="gradcam").gradcam, expected)


def test_parts_that_are_each_of_length_one_have_a_map_or_a_warning():
    inputs = keras.Input((*TINY, 3))
    x = mean(L.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    model = randomised(keras.Model(inputs, L.Concatenate()([L.UnitNormalization()(L.Dense(3)(x)) for _ in range(2)])))
    with pytest.warns(UserWarning, match="zero|empty|length"):
        assert explain(model, PICTURES, target=SelfSimilarity(), methods="gradcam").gradcam.max() < 1e-5


def test_targets_of_one_name_are_not_mixed_up(explainer):
    def times(factor):
        class Longer(Norm):
            def scores(self, outputs, values):
                return factor * super().scores(outputs, values)

        return Longer()

    twice, thrice = explainer.score(PICTURES, times(2)), explainer.score(PICTURES, times(3))
    np.testing.assert_allclose(thrice, 1.5 * twice, rtol=1e-6)


def test_an_own_picture_is_warned_of_in_a_sum_too(explainer):
    with pytest.warns(UserWarning, match="SelfSimilarity"):
        explainer(PICTURES, -Similarity(PICTURES))


@pytest.mark.parametrize("make", [Distance, lambda own: Triplet(own, -own)], ids=["Distance", "Triplet"])
def test_a_rounding_error_away_from_oneself_is_distance_zero(make):
    """The direction of a rounding error must not become a map."""
    model = tiny(dense)
    own = Explainer(model).embed(PICTURES)
    near = np.nextafter(own, np.float32(np.inf))
    explainer = Explainer(model, methods="gradcam")
    with pytest.warns(UserWarning, match="SelfSimilarity"):
        result = explainer(PICTURES, make(near))
    if make is Distance:
        np.testing.assert_array_equal(result.gradcam, 0)
    else:
        with pytest.warns(UserWarning, match=r"`positive`.*SelfSimilarity"):
            expected = explainer(PICTURES, Triplet(own, -near))
        np.testing.assert_allclose(result.gradcam, expected.gradcam, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("share", [1e-4, 1e-3, 3e-2])
def test_distances_that_are_small_beside_the_embeddings_have_maps(share):
    """As in a network whose embeddings have much in common."""
    model = tiny(dense)
    head = model.layers[-1]
    kernel, bias = head.get_weights()
    typical = np.linalg.norm(Explainer(model).embed(PICTURES) - bias, axis=1).mean()
    head.set_weights([kernel, np.full_like(bias, typical / share / len(bias) ** 0.5)])
    explainer = Explainer(model, methods="gradcam")
    own, other = explainer.embed(PICTURES), explainer.embed(OTHERS)
    target = Triplet(np.roll(own, 1, 0), other)
    features = explainer.features(PICTURES)

    def score(f):
        z = ops.mean(f, axis=(1, 2)) @ tensor(kernel) + head.bias
        positive, negative = (ops.norm(z - tensor(r), axis=1) for r in (np.roll(own, 1, 0), other))
        return negative - positive

    expected = plain_gradcam(lambda given: given, score, tensor(features))
    result = explainer(PICTURES, target)
    assert_close(result.gradcam, expected.gradcam, 0.05)
    assert result.gradcam.any()


def test_class_probabilities_are_no_embeddings():
    model = tiny(lambda z: L.Softmax()(L.Dense(D, name="logits")(z)))
    explainer = Explainer(model, methods="gradcam")
    for target in (Similarity(OTHERS), Distance(OTHERS), Triplet(OTHERS, np.roll(OTHERS, 1, 0))):
        with pytest.warns(UserWarning, match=f"softmax, so that {type(target).__name__} compares class probabilities"):
            explainer(PICTURES, target)


def test_more_references_than_pictures_name_the_way_out(explainer):
    with pytest.raises(ValueError, match=r"Received: 4 for 3 pictures\. Candidates: .*limit=4"):
        explainer(PICTURES, Similarity(np.ones((4, D))))


@pytest.mark.parametrize(
    "reference", [OTHERS[:, :2], np.ones((3, 1, 1, D))], ids=["too small", "embeddings of four axes"]
)
def test_a_reference_that_does_not_fit_is_named(explainer, reference):
    with pytest.raises(ValueError, match="`reference`"):
        explainer(PICTURES, Similarity(reference))


@pytest.mark.parametrize(
    "rescale",
    [
        lambda z: z * keras.ops.sum(z**2, axis=1, keepdims=True),
        lambda z: z / keras.ops.sum(z**2, axis=1, keepdims=True),
        lambda z: z * keras.ops.norm(z, axis=1, keepdims=True),
    ],
    ids=["times the square", "by the square", "times the length"],
)
def test_what_changes_the_length_is_not_looked_through(rescale):
    model = tiny(lambda x: L.Lambda(rescale)(dense(x)))
    result = explain(model, PICTURES, target=Norm(), methods="gradcam")
    np.testing.assert_allclose(result.scores, np.linalg.norm(numbers(model(PICTURES)), axis=1), rtol=1e-4)


class Learned(L.Layer):
    """A factor that is learned."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

    def call(self, inputs):
        return self.factor * inputs


@pytest.mark.filterwarnings("ignore:All embeddings have one length")
def test_a_normalisation_is_found_behind_a_learned_factor(unit_length):
    plain, expected = unit_length
    model = keras.Model(plain.input, Learned()(plain.output))
    assert_close(explain(model, PICTURES, target=SelfSimilarity(), methods="gradcam").gradcam, expected)


def test_similarity_and_distance_agree_on_what_is_the_same_picture():
    model = tiny(HEADS["UnitNormalization"])
    explainer = Explainer(model, methods="gradcam")
    near = explainer.embed(PICTURES) + np.float32(1e-6) * np.eye(D, dtype="float32")[:3]
    for make in (Similarity, Distance):
        with pytest.warns(UserWarning, match="SelfSimilarity"):
            explainer(PICTURES, make(near))


@pytest.mark.parametrize("names", ["id7", ["id7", "id9"], np.array(["id7"], object)])
def test_identities_are_no_references(names):
    with pytest.raises(ValueError, match=r"`reference` must be pictures .* or embeddings.*Candidates: the pictures"):
        Similarity(names)
