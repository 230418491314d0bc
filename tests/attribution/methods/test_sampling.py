"""SmoothGrad and integrated gradients: against slow sums, and what theory promises."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from backends import numbers, tensor
from oracles import score_and_gradient

from keras_gradcam import Class, Explainer, IntegratedGradients, Similarity, SmoothGrad, Unit, explain
from keras_gradcam.attribution.methods.sampling import samplers


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).random((3, 10, 6, 2), dtype=np.float32)


def smooth_network(ending="softmax"):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((10, 6, 2)),
            keras.layers.Conv2D(6, 3, activation="tanh"),
            keras.layers.Conv2D(5, 3, activation="softplus"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, activation=ending, kernel_initializer=keras.initializers.RandomNormal(0, 3)),
        ]
    )


def gradient_of(model, target):
    """Gradient of a logit, one picture at a time."""
    logits = keras.Sequential([*model.layers[:-1]])
    dense = model.layers[-1]

    def gradient(picture):
        def score(x):
            return (logits(x) @ dense.kernel + dense.bias)[:, target]

        return numbers(score_and_gradient(score, tensor(picture[None]))[1])[0]

    return gradient


@pytest.mark.filterwarnings("ignore:The model holds no ReLU")
def test_against_slow_sums(images):
    model = smooth_network()
    sampled = [SmoothGrad(noise=0.3, samples=7, seed=4), IntegratedGradients(steps=5, baseline=0.25)]
    explainer = Explainer(model, target=2, methods=["saliency", "input_x_gradient", *sampled], batch_size=4)
    assert explainer.methods == ("saliency", "input_x_gradient", "smoothgrad", "integrated_gradients")
    found = explainer(images).maps
    gradient = gradient_of(model, 2)
    noise = np.random.default_rng(4).standard_normal((7, 10, 6, 2)).astype("float32")
    for number, x in enumerate(images):
        slope = gradient(x)
        np.testing.assert_allclose(found["saliency"][number], np.abs(slope).max(-1), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(found["input_x_gradient"][number], x * slope, rtol=1e-4, atol=1e-6)
        sigma = 0.3 * (x.max() - x.min())
        mean = np.mean([gradient(x + sigma * one) for one in noise], axis=0)
        np.testing.assert_allclose(found["smoothgrad"][number], mean, rtol=1e-3, atol=1e-6)
        points = [0.25 + (step + 0.5) / 5 * (x - 0.25) for step in range(5)]
        path = (x - 0.25) * np.mean([gradient(point.astype("float32")) for point in points], axis=0)
        np.testing.assert_allclose(found["integrated_gradients"][number], path, rtol=1e-3, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The model holds no ReLU")
def test_integrated_gradients_add_up_to_what_the_score_gains(images):
    model = smooth_network()
    explainer = Explainer(model, methods=IntegratedGradients(steps=64))
    result = explainer(images)
    gained = result.scores - explainer.score(np.zeros_like(images), target=Class(result.classes))
    sums = result.maps["integrated_gradients"].sum(axis=(1, 2, 3))
    np.testing.assert_allclose(sums, gained, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(result.completeness_error, sums - gained, atol=1e-5)
    coarse = explain(model, images, methods=IntegratedGradients(steps=2))
    assert np.abs(coarse.completeness_error).max() > 4 * np.abs(result.completeness_error).max()
    assert coarse[1].completeness_error.shape == (1,)


def test_of_a_linear_model_one_step_is_exact():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(4 * 3, 2)).astype("float32")
    model = keras.Sequential([keras.Input((4, 3, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.layers[-1].set_weights([kernel, np.ones(2, "float32")])
    pictures = rng.random((2, 4, 3, 1), dtype=np.float32)
    result = explain(model, pictures, target=Unit(1), methods=[IntegratedGradients(steps=1), "smoothgrad"])
    np.testing.assert_allclose(result.maps["integrated_gradients"], pictures * kernel[:, 1].reshape(4, 3, 1), rtol=1e-5)
    np.testing.assert_allclose(
        result.maps["smoothgrad"], np.broadcast_to(kernel[:, 1].reshape(4, 3, 1), (2, 4, 3, 1)), rtol=1e-5
    )
    np.testing.assert_allclose(result.completeness_error, 0, atol=1e-5)


@pytest.mark.parametrize("target", [None, Class() - Class(1), Similarity(np.arange(4.0))], ids=str)
def test_the_question_stays_that_of_the_picture_while_pictures_change(target):
    """With much noise other classes would be predicted; explained is the one of the picture itself."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
    pictures = np.random.default_rng(1).random((5, 6, 6, 1), dtype=np.float32)
    found = explain(model, pictures, target=target, methods=SmoothGrad(noise=2.0, samples=20))
    if isinstance(target, Similarity):
        assert np.isfinite(found.maps["smoothgrad"]).all()
        return
    predicted = model.predict(pictures, verbose=0).argmax(1)
    kernel = numbers(model.layers[-1].kernel)
    expected = kernel[:, predicted] - (kernel[:, [1]] if target else 0)
    np.testing.assert_allclose(found.maps["smoothgrad"].reshape(5, -1), expected.T, rtol=1e-4, atol=1e-6)


def test_a_batch_is_its_pictures_and_a_call_repeats_itself(images):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((10, 6, 2)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    explainer = Explainer(model, target=1, methods=[SmoothGrad(samples=9), IntegratedGradients(steps=10)], batch_size=7)
    whole, again = explainer(images), explainer(images)
    for name in explainer.methods:
        np.testing.assert_array_equal(whole.maps[name], again.maps[name])
        singles = np.concatenate([explainer(images[n : n + 1]).maps[name] for n in range(3)])
        np.testing.assert_allclose(whole.maps[name], singles, rtol=1e-4, atol=1e-6)
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    explainer(images)
    assert np.random.random() == expected


def test_whole_numbers_are_taken_as_pictures_too():
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    pictures = np.random.default_rng(0).integers(0, 255, (2, 6, 6, 1), dtype=np.uint8)
    methods = ["smoothgrad", "integrated_gradients", "input_x_gradient"]
    of_integers = explain(model, pictures, target=Unit(0), methods=methods)
    of_floats = explain(model, pictures.astype("float32"), target=Unit(0), methods=methods)
    for name in methods:
        np.testing.assert_allclose(of_integers.maps[name], of_floats.maps[name], rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (SmoothGrad, {"noise": -1}, "`noise`"),
        (SmoothGrad, {"samples": 0}, "`samples`"),
        (IntegratedGradients, {"steps": 1.5}, "`steps`"),
        (SmoothGrad, {"noise": float("nan")}, "`noise`"),
        (SmoothGrad, {"noise": "0.1"}, "`noise`"),
        (SmoothGrad, {"seed": None}, "`seed`"),
    ],
)
def test_sampling_refuses_what_it_cannot_do(method, options, message):
    with pytest.raises(ValueError, match=message):
        method(**options)


def test_methods_by_name_have_the_defaults():
    assert samplers("gradcam") == {}
    assert samplers("smoothgrad") == samplers(SmoothGrad()) == {"smoothgrad": SmoothGrad(0.15, 25, 0)}
    both = samplers(["integrated_gradients", "saliency", SmoothGrad(samples=3)])
    assert (both["integrated_gradients"].steps, both["integrated_gradients"].baseline) == (None, 0.0)
    assert both["smoothgrad"].samples == 3


def test_a_baseline_is_a_number_or_a_picture(images):
    def gradient(pictures, samples):
        return np.ones_like(pictures)

    picture = np.full(images.shape[1:], 0.5, np.float32)
    found = IntegratedGradients(baseline=picture).maps(gradient, images)
    np.testing.assert_allclose(found, images - 0.5, atol=1e-6)
    with pytest.raises(ValueError, match="`baseline` must be a number or a picture"):
        IntegratedGradients(baseline=[1, 2, 3]).maps(gradient, images)
    assert SmoothGrad(samples=3).maps(gradient, images, batch_size=2).shape == images.shape


def ramp(start, end):
    """Its score rises between two mean values alone, so that few points on the line have a gradient."""
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(1 / 16)),
            keras.layers.Lambda(lambda x: keras.ops.clip(x, start, end)),
        ]
    )


def test_steps_are_doubled_until_the_map_adds_up():
    pictures = np.array([1.0, 0.9, 0.35], np.float32)[:, None, None, None] * np.ones((3, 4, 4, 1), np.float32)
    gained = np.minimum(pictures.mean(axis=(1, 2, 3)), 0.603) - 0.403
    gained[2] = 0
    model = ramp(0.403, 0.603)
    explainer = Explainer(model, target=Unit(0), methods="integrated_gradients")
    result = explainer(pictures)
    maps = result.maps["integrated_gradients"].astype("float64")
    np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), gained, rtol=0.0101)
    np.testing.assert_allclose(result.completeness_error, maps.sum(axis=(1, 2, 3)) - gained, atol=1e-6)
    assert len(explainer.runner.cache) == 2  # no trace for each number of steps
    with pytest.warns(UserWarning, match=r"with 8 steps do not add up.*IntegratedGradients\(\) takes as many"):
        explain(model, pictures, target=Unit(0), methods=IntegratedGradients(steps=8))
    for number, picture in enumerate(pictures):  # as many steps as each picture needs, whatever stands beside it
        alone = explain(model, picture[None], target=Unit(0), methods="integrated_gradients")
        np.testing.assert_array_equal(
            alone.maps["integrated_gradients"][0], result.maps["integrated_gradients"][number]
        )


def test_a_network_after_training_needs_more_steps_than_before():
    keras.utils.set_random_seed(4)
    rng = np.random.default_rng(0)
    pictures, labels = rng.random((96, 12, 12, 1), dtype=np.float32), np.arange(96) % 3
    for picture, label in zip(pictures, labels, strict=True):
        picture[2 : 4 + 3 * label, 2 : 4 + 3 * label] += 1
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.GlobalMaxPooling2D(),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(pictures, labels, epochs=20, verbose=0)
    result = Explainer(model, methods="integrated_gradients")(pictures[:12])
    sizes = np.abs(result.maps["integrated_gradients"]).sum(axis=(1, 2, 3))
    assert (np.abs(result.completeness_error) <= 0.0101 * sizes).all()


def test_what_no_number_of_steps_makes_complete_is_said():
    step = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Lambda(lambda x: x + 5 * keras.ops.sign(x - 0.3)), keras.layers.Flatten(),
         keras.layers.Dense(1, kernel_initializer="ones")]
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"with 512 steps do not add up"):
        explain(step, np.ones((1, 4, 4, 1), np.float32), target=Unit(0), methods="integrated_gradients")
