"""What a model takes: numbers of all kinds, of any rank, as the model declares them; what does not fit is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from backends import tensor, tensorflow_only
from keras import layers as L  # noqa: N812
from models import SIZE, convnet, images
from oracles import assert_same
from retrieval_sets import dataset

from keras_gradcam import Explainer, GuidedGradCAMCallback, explain
from keras_gradcam.attribution.inputs import explained_input, input_shape, input_spec_of, standardized
from keras_gradcam.filters import top_activations
from keras_gradcam.metrics import deletion, randomization_check


@pytest.fixture(scope="module")
def model():
    return convnet(activation="relu")


INTEGERS = np.random.default_rng(3).integers(0, 256, (3, *SIZE, 3))


@pytest.fixture(scope="module")
def expected(model):
    return explain(model, INTEGERS.astype("float32"), target=1)


@pytest.mark.parametrize(
    "given",
    [
        INTEGERS.astype("float64"),
        INTEGERS.astype("float16"),
        INTEGERS.astype("uint8"),
        INTEGERS.astype("int32"),
        INTEGERS.astype("int64"),
        tensor(INTEGERS, "float32"),
        tensor(INTEGERS, "uint8"),
        keras.Variable(INTEGERS, dtype="float32"),
        tensor(INTEGERS, "bfloat16"),
        np.ascontiguousarray(INTEGERS[::-1].astype("float32"))[::-1],
    ],
    ids=lambda given: f"{type(given).__name__} {getattr(given, 'dtype', '')}",
)
def test_numbers_of_all_kinds_are_explained_as_they_are(model, expected, given):
    assert_same(
        explain(model, given, target=1), expected, 0.02 if "bfloat16" in str(getattr(given, "dtype", "")) else 1e-5
    )


def test_booleans_are_explained_as_zero_and_one(model):
    given = INTEGERS > 127
    assert_same(explain(model, given, target=1), explain(model, given.astype("float32"), target=1))


def test_pictures_are_not_modified(model):
    given = images()
    given.flags.writeable = False
    explain(model, given)
    np.testing.assert_array_equal(given, images())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (images()[0], r"\(None, 12, 10, 3\).*\(12, 10, 3\).*images\[None\]"),
        (images(channels=1), r"\(None, 12, 10, 3\).*\(3, 12, 10, 1\)"),
        (images(size=(10, 12)), r"\(None, 12, 10, 3\).*\(3, 10, 12, 3\)"),
        (images()[:0], r"at least one.*\(0, 12, 10, 3\)"),
        (np.array(3.0), "must be a batch"),
        ([], "must be a batch"),
        ([images(2), images(3)], "same number of samples"),
        (images().astype("complex64"), "real numbers.*complex64"),
        (np.array(["cat"]), "real numbers"),
    ],
    ids=["single", "channels", "swapped", "empty", "number", "nothing", "lengths", "complex", "strings"],
)
def test_wrong_pictures_are_refused_with_their_shape(model, given, message):
    with pytest.raises(ValueError, match=message):
        explain(model, given)


def test_grey_pictures_without_a_channel_axis_are_explained_as_with_one():
    inputs = keras.Input((12, 10))
    x = L.Reshape((12, 10, 1))(inputs)
    x = L.Conv2D(4, 3, activation="relu", name="conv")(x)
    model = keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(x)))
    with_axis = keras.Sequential([keras.Input((12, 10, 1)), *model.layers[2:]])
    grey = images()[..., 0]
    flat, full = explain(model, grey, target=1), explain(with_axis, grey[..., None], target=1)
    assert flat.layer == "conv"
    for name in ("gradcam", "heatmap"):
        np.testing.assert_allclose(getattr(flat, name), getattr(full, name), rtol=1e-6)
    for name in ("guided_backprop", "guided_gradcam"):
        np.testing.assert_allclose(getattr(flat, name), getattr(full, name)[..., 0], rtol=1e-6)


def test_words_are_explained_by_position():
    model = keras.Sequential(
        [
            keras.Input((12,), dtype="int32"),
            L.Embedding(20, 6),
            L.Conv1D(4, 3, activation="relu", padding="same", name="conv"),
            L.GlobalAveragePooling1D(),
            L.Dense(2),
        ]
    )
    result = explain(model, np.arange(24).reshape(2, 12) % 20, target=0, methods=["gradcam"])
    assert result.layer == "conv"
    assert result.heatmap.shape == (2, 12)
    np.testing.assert_allclose(result.heatmap, result.gradcam)


def test_channels_first_is_refused_or_at_least_said():
    first = keras.Sequential([keras.Input((3, 12, 10)), L.GlobalAveragePooling2D(data_format="channels_first")])
    with pytest.raises(ValueError, match="channels last"):
        explain(first, np.zeros((1, 3, 12, 10)))
    broad = keras.Sequential(
        [keras.Input((3, 12, 10)), L.Conv2D(4, 3, padding="same"), L.GlobalAveragePooling2D(), L.Dense(2)]
    )
    with pytest.warns(UserWarning, match="channels came first"):
        explain(broad, np.zeros((1, 3, 12, 10)), methods="gradcam")


def test_input_of_integers_has_no_guided_gradient():
    model = keras.Sequential(
        [
            keras.Input((12,), dtype="int32"),
            L.Embedding(10, 4),
            L.Conv1D(3, 3, activation="relu"),
            L.GlobalAveragePooling1D(),
            L.Dense(2),
        ]
    )
    with pytest.raises(ValueError, match=r"must be differentiable.*int32.*methods="):
        explain(model, np.ones((2, 12), "int32"), layer="conv1d", methods="guided_backprop")


def test_input_of_the_highest_rank_is_explained():
    input_spec = input_spec_of([np.zeros((2, 5)), np.zeros((2, 12, 10, 3)), np.zeros((2, 8, 6, 1))])
    assert explained_input(input_spec) == 1
    assert input_shape(input_spec) == (12, 10, 3)
    assert input_shape(input_spec, 2)[:2] == (8, 6)


@pytest.mark.parametrize("which", [3, -1, "images"])
def test_input_index_out_of_range_is_refused(which):
    input_spec = input_spec_of([np.zeros((2, 5)), np.zeros((2, 12, 10, 3)), np.zeros((2, 8, 6, 1))])
    with pytest.raises(ValueError, match=rf"`input_index`.*{which!r}.*0 to 2"):
        explained_input(input_spec, which)


def test_a_dict_of_samples_is_told_from_inputs_by_name():
    model = convnet(activation="relu")
    with pytest.raises(ValueError, match=r"(?s)`images` must have the model's inputs as keys.*'label'.*image='image'"):
        standardized({"image": images(2), "label": np.arange(2)}, model)


class Halved(L.Layer):
    """What a preprocessor may do: another size and another range."""

    def call(self, pictures):
        resized = keras.ops.image.resize(keras.ops.cast(pictures, "float32"), (12, 10))
        return resized / 127.5 - 1


class Task(keras.Model):
    """Takes pictures of any size in `predict`, as the tasks of KerasHub do."""

    def __init__(self, network):
        super().__init__()
        self.network, self.preprocessor = network, Halved()
        self.preprocessor.build(None)

    def build(self, shape):
        self.built = True

    def call(self, pictures):
        return self.network(pictures)


def test_a_model_with_a_preprocessor_is_explained_on_what_predict_sees(model, tmp_path):
    task = Task(model)
    raw = np.random.default_rng(2).integers(0, 256, (3, 24, 20, 3)).astype("uint8")
    seen = np.asarray(Halved()(raw))
    task(seen)
    expected = explain(model, seen)
    explainer = Explainer(task)
    result = explainer(raw)
    for name, array in expected.maps.items():
        np.testing.assert_allclose(result.maps[name], array, rtol=1e-5, atol=1e-7, err_msg=name)
    np.testing.assert_array_equal(result.images, seen)
    np.testing.assert_allclose(explainer.predict(raw), expected.predictions, rtol=1e-6)
    np.testing.assert_allclose(explainer.score(raw, 1), Explainer(model).score(seen, 1), rtol=1e-6)
    # Measures change what the network sees.
    curve, plain = (deletion(m, x, result.heatmap, target=1).scores for m, x in ((task, raw), (model, seen)))
    np.testing.assert_allclose(curve, plain, rtol=1e-5, atol=1e-6)
    shuffled, plain = (
        randomization_check(m, x, target=1, depth=1).correlations for m, x in ((task, raw), (model, seen))
    )
    np.testing.assert_allclose(shuffled, plain, atol=1e-5)
    found, plain = (top_activations(m, x, layer, top=2) for m, x, layer in (
        (task, raw, f"{model.name}/conv2"), (model, seen, "conv2")))  # fmt: skip
    np.testing.assert_allclose(found.values(), plain.values(), rtol=1e-5)
    callback = GuidedGradCAMCallback((raw, [0, 1, 2]), tmp_path, methods="gradcam")
    task.compile("sgd", "mse")
    callback.set_model(task)
    callback.on_train_begin()
    measured = callback._monitor.measure(0).explanation
    np.testing.assert_allclose(measured.gradcam, explain(model, seen, target=[0, 1, 2]).gradcam, rtol=1e-5, atol=1e-7)
    assert callback._frames.run.info.input_size == (12, 10)


class WithoutCall(keras.Model):
    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def test_a_model_without_call_is_refused_with_the_models_within(model):
    other = keras.Sequential([L.Dense(2)])
    gan = WithoutCall(generator=other, discriminator=model)
    with pytest.raises(
        ValueError, match=r"have a method `call`.*WithoutCall.*Explainer\(model\.generator\).*"
    ) as caught:
        Explainer(gan)
    assert "explainer=Explainer(model.discriminator)" in str(caught.value)
    callback = GuidedGradCAMCallback(images(), explainer=Explainer(gan.discriminator, methods="gradcam"))
    gan.compile("sgd")
    callback.set_model(gan)
    assert callback._explainer_of(gan, callback._explained()[0]).model is model
    with pytest.raises(ValueError, match=r"which has none\. Candidates: the model that"):
        Explainer(WithoutCall(dense=L.Dense(2)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((images(), np.zeros(3)), r"pictures alone, with their labels as `target=labels`"),
        pytest.param(
            lambda: dataset(images()).batch(2), r"be an array.*explainer\(batch\) for each batch", marks=tensorflow_only
        ),
        ((batch for batch in [images()]), r"be an array.*generator.*explainer\(batch\)"),
        ({"image": images(), "label": np.zeros(3)}, r"the keys 'image', 'label'"),
    ],
    ids=["pictures and labels", "data set", "generator", "dict"],
)
def test_what_is_no_batch_is_refused_with_the_way_to_give_it(model, given, message):
    given = given() if callable(given) else given
    with pytest.raises(ValueError, match=message):
        explain(model, given)


def test_models_of_keras_two_are_named():
    tf_keras = pytest.importorskip("tf_keras")
    old = tf_keras.Sequential([tf_keras.layers.Conv2D(2, 3, input_shape=(8, 8, 3)), tf_keras.layers.Flatten()])
    with pytest.raises(ValueError, match=r"Keras 3 model.*Keras 2 \(tf_keras\).*TF_USE_LEGACY_KERAS"):
        Explainer(old)
    old.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"Keras 2 \(tf_keras\)"):
        old.fit(np.zeros((2, 8, 8, 3)), np.zeros((2, 72)), verbose=0, callbacks=[GuidedGradCAMCallback(images())])
