"""The callback inside real trainings: what it logs, what it refuses, and that training does not notice it."""

from __future__ import annotations

import copy
import csv
import inspect
import json
import os
import subprocess
import sys
import textwrap
import threading
import traceback
import warnings

import keras
import numpy as np
import pytest
from backends import (
    BACKEND,
    become_second_process,
    compiled_only,
    jax_only,
    numbers,
    tensor,
    tensorflow_only,
    torch_only,
)
from oracles import score_and_gradient
from reid_models import IDENTITIES, embedding_model, layers
from retrieval_sets import dataset
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from trainings import N, as_logged, decoded, events, fit, opened, scalar, small_model

from keras_gradcam import (
    Class,
    Explainer,
    GuidedGradCAMCallback,
    Output,
    Probe,
    Similarity,
    Unit,
    explain,
    metrics,
)
from keras_gradcam.errors import ArgumentError
from keras_gradcam.filters import Filters
from keras_gradcam.training.monitor import ProbeMonitor
from keras_gradcam.training.writers.tensorboard import TensorBoardWriter


def steps(log_dir, tag="gradcam/overview"):
    return [event.step for event in events(log_dir)[tag]]


# --- what is logged -------------------------------------------------------------------------------------------------


def test_every_epoch_of_every_panel_the_overview_and_the_scalars_can_be_read_back(data, tmp_path):
    model = small_model()
    fit(model, data, GuidedGradCAMCallback(Probe(data, limit=3), tmp_path), epochs=3)
    logged = events(tmp_path)
    probes = [f"probe_{number:02d}" for number in range(3)]
    attention = ("similarity_previous", "similarity_first", "center_shift", "focus", "mass")
    pictures = {"gradcam/overview", *(f"gradcam/{probe}" for probe in probes)}
    assert {tag for tag in logged if not tag.startswith("gradcam_tab/")} == {
        *pictures,
        *(tag.replace("gradcam/", "gradcam_start/") for tag in pictures),
        *(f"gradcam_start/{name}_mean" for name in ("score", "probability", "focus", "mass")),
        *(f"gradcam/{name}_mean" for name in ("score", "probability", *attention)),
        *(f"gradcam_probes/{name}/{probe}" for name in ("score", "probability", *attention) for probe in probes),
        *(f"gradcam_missing/{name}" for name in attention),
        *(f"gradcam_summary/{probe.replace('probe', 'filmstrip')}" for probe in probes),
        "gradcam/report",
    }
    for tag in (
        *pictures,
        "gradcam/score_mean",
        "gradcam_probes/focus/probe_01",
        "gradcam_tab/maps",
        "gradcam_tab/numbers",
    ):
        assert [event.step for event in logged[tag]] == [0, 1, 2], tag
    assert [event.step for event in logged["gradcam_start/overview"]] == [0]
    assert [event.step for event in logged["gradcam/report"]] == [2]
    for probe in probes:
        # Three epochs of training give three different panels of four cells side by side.
        panels = [decoded(event) for event in logged[f"gradcam/{probe}"]]
        assert len({picture.tobytes() for picture in panels}) == 3
        assert panels[0].shape[1] > 4 * 190


def test_scalars_are_the_models_own_numbers(data, tmp_path):
    model = small_model()
    fit(model, data, GuidedGradCAMCallback(Probe(data, limit=5), tmp_path), epochs=1)
    probabilities = model.predict(data[0][:5], verbose=0)[np.arange(5), data[1][:5]]
    logged = events(tmp_path)
    for number, expected in enumerate(probabilities):
        assert scalar(logged[f"gradcam_probes/probability/probe_{number:02d}"][0]) == pytest.approx(expected, rel=1e-5)
    assert scalar(logged["gradcam/probability_mean"][0]) == pytest.approx(probabilities.mean(), rel=1e-5)
    features = numbers(keras.Sequential(model.layers[:-1])(data[0][:5], training=False))
    kernel, bias = model.layers[-1].get_weights()
    score = (features @ kernel + bias)[np.arange(5), data[1][:5]]
    assert scalar(logged["gradcam/score_mean"][0]) == pytest.approx(score.mean(), rel=1e-4)


def test_every_and_the_last_epoch(data, tmp_path):
    fit(
        small_model(), data, GuidedGradCAMCallback(Probe(data, limit=1), tmp_path, methods="gradcam", every=3), epochs=7
    )
    assert steps(tmp_path) == [2, 5, 6]


def test_a_training_stopped_early_gets_its_last_epoch(data, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    for place, order in enumerate(([0, 1], [1, 0])):
        log_dir = tmp_path / str(place)
        callbacks = [Stop(), GuidedGradCAMCallback(Probe(data, limit=1), log_dir, methods="gradcam", every=10)]
        fit(small_model(), data, [callbacks[position] for position in order], epochs=8)
        assert steps(log_dir) == [1]


def test_an_overview_of_the_latest_epoch_is_kept_as_a_file(data, tmp_path):
    callback = GuidedGradCAMCallback(Probe(data, limit=2), tmp_path / "logs", save_dir=tmp_path / "pictures")
    fit(small_model(), data, callback, epochs=1)
    saved = opened((tmp_path / "pictures" / "overview.png").read_bytes())
    np.testing.assert_array_equal(decoded(events(tmp_path / "logs")["gradcam/overview"][-1]), as_logged(saved))
    assert np.abs(as_logged(saved).astype(int) - saved).mean() < 20  # of noise, which no JPEG likes
    manifest = json.loads((tmp_path / "pictures" / "manifest.json").read_text())
    assert sorted(os.listdir(tmp_path / "pictures")) == sorted(["manifest.json", *manifest["files"]])
    with np.load(tmp_path / "pictures" / "run.npz") as run:
        np.testing.assert_array_equal(run["maps"], callback.history.maps)


def test_a_model_without_classes_logs_scores_only(data, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((16, 12, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Reshape((2, 2)),
        ]
    )
    model.compile("sgd", "mse")
    callback = GuidedGradCAMCallback(Probe(data[0], limit=1), tmp_path, target=lambda outputs: outputs[:, 0, 0])
    model.fit(data[0], np.zeros((N, 2, 2)), verbose=0, callbacks=[callback])
    tags = set(events(tmp_path))
    assert {"gradcam/score_mean", "gradcam_probes/score/probe_00"} <= tags
    assert not any("probability" in tag for tag in tags)


# --- drift, and Keras' own logs ---------------------------------------------------------------------------------------


class Maps(keras.callbacks.Callback):
    """Computes the same maps on its own, as the reference."""

    def __init__(self, data, samples):
        super().__init__()
        self.images, self.labels, self.maps = data[0][:samples], data[1][:samples], []

    def on_train_begin(self, logs=None):
        self.explainer = Explainer(self.model, methods=["gradcam"])
        self.note()

    def on_epoch_end(self, epoch, logs=None):
        self.note()

    def note(self):
        self.maps.append(self.explainer(self.images, target=self.labels).gradcam.astype(np.float64))


def test_scalars_logs_and_history_are_the_drift_of_the_real_maps(data, tmp_path):
    box = (2, 3, 9, 11)
    reference = Maps(data, 4)
    callback = GuidedGradCAMCallback(Probe(data, limit=4, regions=[box] * 4), tmp_path)
    history = fit(small_model(), data, [callback, reference], epochs=3).history
    start, *maps = reference.maps
    expected = {
        "similarity_previous": [metrics.rank_correlation(a, b) for a, b in zip([start, *maps], maps, strict=False)],
        "similarity_first": [metrics.rank_correlation(start, one) for one in maps],
        "center_shift": [metrics.center_shift(a, b) for a, b in zip([start, *maps], maps, strict=False)],
        "focus": [metrics.focus(one) for one in maps],
        "mass": [metrics.mass(one) for one in maps],
        "mass_inside": [metrics.mass_inside(one, [box] * 4, (16, 12)).values for one in maps],
        "pointing_game": [metrics.pointing_game(one, [box] * 4, (16, 12), tolerance=0).values for one in maps],
    }
    logged = events(tmp_path)
    for name, values in expected.items():
        values = np.array(values)
        np.testing.assert_allclose(callback.history.numbers[name], values, rtol=2e-3, atol=2e-3, err_msg=name)
        means = [metrics.mean_of_present(epoch)[0] for epoch in values]
        np.testing.assert_allclose(history[f"gradcam_{name}"], means, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose([scalar(event) for event in logged[f"gradcam/{name}_mean"]], means, atol=2e-3)
        for number in range(4):
            tag = f"gradcam_probes/{name}/probe_{number:02d}"
            present = values[:, number][~np.isnan(values[:, number])]
            np.testing.assert_allclose([scalar(e) for e in logged.get(tag, [])], present, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(callback.history.maps, maps, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(callback.history.start.maps, start, rtol=2e-3, atol=1e-4)


def test_training_can_be_steered_by_attention(data, tmp_path):
    monitored = "gradcam_mass_inside"
    callbacks = [
        GuidedGradCAMCallback(Probe(data, limit=2, regions=[(0, 0, 6, 8)] * 2), tmp_path, methods="gradcam"),
        keras.callbacks.EarlyStopping(monitor=monitored, mode="max", patience=0, min_delta=2.0),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.weights.h5", monitored, mode="max", save_best_only=True,
                                        save_weights_only=True),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]  # fmt: skip
    history = fit(small_model(), data, callbacks, epochs=6)
    assert len(history.epoch) < 6
    assert (tmp_path / "best.weights.h5").exists()
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row[monitored]) for row in rows] == pytest.approx(history.history[monitored])


def test_logs_never_hold_nan_so_that_early_stopping_is_not_misled(data, tmp_path):
    callback = GuidedGradCAMCallback(Probe(data, limit=2), tmp_path, methods="gradcam", every=2)
    history = fit(small_model(), data, callback, epochs=4).history
    for name in ("gradcam_score", "gradcam_focus", "gradcam_similarity_previous"):
        assert len(history[name]) == 2
        assert np.isfinite(history[name]).all()
    assert "gradcam_mass_inside" not in history  # there are no regions


def test_logs_can_be_left_alone_and_the_callback_copied_after_training(data, tmp_path):
    callback = GuidedGradCAMCallback(Probe(data, limit=1), tmp_path, methods="gradcam", logs=())
    history = fit(small_model(metrics=["accuracy"]), data, callback, epochs=1).history
    assert set(history) == {"accuracy", "loss"}
    assert copy.deepcopy(callback).history.epochs.tolist() == [0]


# --- what is explained ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        *("array", "tensor", "one_hot", "pydataset", "list"),
        *(pytest.param(name, marks=tensorflow_only) for name in ("dataset", "unbatched")),
        *(pytest.param(name, marks=torch_only) for name in ("with gradient", "loader", "torch dataset")),
    ],
)
def test_probes_of_every_kind_give_the_same_pictures_and_labels(data, kind):
    images, labels = data

    class Batches(keras.utils.PyDataset):
        num_batches = None  # endless

        def __getitem__(self, index):
            part = slice(index * 3 % N, index * 3 % N + 3)
            return images[part], labels[part]

        def __len__(self):
            return 8

    def loader(**options):
        import torch

        dataset = torch.utils.data.TensorDataset(torch.tensor(images, requires_grad=True), torch.tensor(labels))
        return torch.utils.data.DataLoader(dataset, **options)

    probe = {
        "array": lambda: (images, labels),
        "tensor": lambda: (tensor(images), tensor(labels)),
        "one_hot": lambda: (images, np.eye(3)[labels]),
        "dataset": lambda: dataset(images, labels).batch(3).repeat(),
        "unbatched": lambda: dataset(images, labels),
        "pydataset": Batches,
        "list": lambda: (list(images), list(labels)),
        "with gradient": lambda: (tensor(images).requires_grad_(), tensor(labels)),
        "loader": lambda: loader(batch_size=3),
        "torch dataset": lambda: loader().dataset,
    }[kind]
    taken = Probe(probe(), limit=7).read()
    np.testing.assert_array_equal(taken.images, images[:7])
    np.testing.assert_array_equal(taken.labels, labels[:7])


def test_the_probe_is_a_copy(data):
    images = data[0].copy()
    taken = GuidedGradCAMCallback(images)._samples
    images[:] = 0
    np.testing.assert_array_equal(taken.images, data[0][:16])


def test_the_target_is_the_label_or_else_the_prediction(data):
    for callback, target in (
        (GuidedGradCAMCallback(Probe(data, limit=3)), "Class([0, 1, 2])"),
        (GuidedGradCAMCallback(data[0]), "Class()"),
        (GuidedGradCAMCallback(data, target=Unit(2)), "Unit(2)"),
    ):
        assert repr(callback._explained()[0]) == target


def test_models_with_several_inputs_and_outputs(tmp_path):
    image, extra = keras.Input((16, 16, 3), name="image"), keras.Input((2,), name="extra")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(image))
    x = keras.layers.Concatenate()([x, extra])
    outputs = {"kind": keras.layers.Dense(3, name="kind")(x), "age": keras.layers.Dense(1, name="age")(x)}
    model = keras.Model({"image": image, "extra": extra}, outputs)
    model.compile("sgd", {"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "age": "mse"})
    inputs = {"image": np.random.default_rng(0).random((8, 16, 16, 3)), "extra": np.ones((8, 2))}
    truth = {"kind": np.arange(8) % 3, "age": np.ones(8)}
    target = Output("kind", Class(truth["kind"][:4]))
    callback = GuidedGradCAMCallback(Probe(inputs, limit=4), tmp_path, target=target, class_names=["a", "b", "c"])
    model.fit(inputs, truth, epochs=1, verbose=0, callbacks=[callback])
    logits = model.predict(inputs, verbose=0)["kind"][:4]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = probabilities[np.arange(4), truth["kind"][:4]].mean()
    assert scalar(events(tmp_path)["gradcam/probability_mean"][0]) == pytest.approx(expected, rel=1e-5)


# --- an explainer of one's own ----------------------------------------------------------------------------------------


def test_an_explainer_brings_its_own_layer_methods_and_batches(data, tmp_path):
    model = small_model()
    explainer = Explainer(model, layer="first", methods=["layercam", "saliency"], batch_size=3)
    callback = GuidedGradCAMCallback(Probe(data, limit=5), tmp_path, explainer=explainer, on_error="raise")
    fit(model, data, callback)
    expected = explain(model, data[0][:5], target=data[1][:5], layer="first", methods=["layercam", "saliency"])
    np.testing.assert_allclose(callback.history.maps[-1], expected.maps["layercam"], rtol=2e-3, atol=1e-6)
    # It explains the labels, since it was not asked for anything else, and is itself left as it was.
    np.testing.assert_array_equal(callback.history.numbers["explained"], [data[1][:5]] * 2)
    assert repr(explainer.target) == "Class()"


def test_an_explainer_keeps_its_target(data, tmp_path):
    model = small_model()
    explainer = Explainer(model, target=Class(2), methods="gradcam")
    callback = GuidedGradCAMCallback(Probe(data, limit=2), tmp_path, explainer=explainer, on_error="raise")
    fit(model, data, callback, epochs=1)
    assert (callback.history.numbers["explained"] == 2).all()


@pytest.mark.parametrize("shortcut", [{"layer": "first"}, {"target": 1}, {"methods": "gradcam"}], ids=str)
def test_an_explainer_and_a_shortcut_contradict_each_other(data, shortcut):
    (name,) = shortcut
    with pytest.raises(ArgumentError, match=rf"`{name}` must be given to the explainer.*Explainer\(model, {name}="):
        GuidedGradCAMCallback(data, explainer=Explainer(small_model()), **shortcut)


def test_what_is_no_explainer_is_refused(data):
    with pytest.raises(ArgumentError, match=r"`explainer` must be a keras_gradcam\.Explainer\. Received: Sequential"):
        GuidedGradCAMCallback(data, explainer=small_model())


def test_an_explainer_of_another_model_is_refused_before_training(data, tmp_path):
    model, other = small_model(), small_model()
    half = keras.Sequential([*other.layers[:3], keras.layers.GlobalAveragePooling2D()])
    for wrong in (other, half):
        callback = GuidedGradCAMCallback(Probe(data, limit=3), tmp_path, explainer=Explainer(wrong))
        with pytest.raises(ArgumentError, match=r"`explainer` must explain the model in training.*get_layer"):
            fit(model, data, callback)
    assert model.optimizer.iterations == 0


def test_a_subclassed_model_within_that_has_no_weights_yet_can_be_explained(data, tmp_path):
    class Inner(keras.Model):
        def __init__(self):
            super().__init__()
            self.body = small_model(compiled=False).layers

        def call(self, x):
            for layer in self.body[1:]:
                x = layer(x)
            return x

    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def call(self, x):
            return self.inner(x)

    model = Outer()
    model.compile("sgd", "sparse_categorical_crossentropy")
    explainer = Explainer(model.inner, methods="gradcam")
    callback = GuidedGradCAMCallback(Probe(data, limit=2), tmp_path, explainer=explainer, on_error="raise")
    fit(model, data, callback, epochs=1)
    expected = explain(model.inner, data[0][:2], target=data[1][:2], methods="gradcam").gradcam
    np.testing.assert_allclose(callback.history.maps[-1], expected, rtol=2e-3, atol=1e-6)


def siamese():
    keras.utils.set_random_seed(5)
    backbone = keras.Sequential([keras.Input((20, 12, 3)), *layers()], name="backbone")
    left, right = keras.Input((20, 12, 3), name="left"), keras.Input((20, 12, 3), name="right")
    apart = keras.layers.Subtract()([backbone(left), backbone(right)])
    model = keras.Model([left, right], keras.layers.Dense(1, activation="sigmoid")(keras.ops.square(apart)))
    model.compile("sgd", "binary_crossentropy")
    return model, backbone


def fit_siamese(model, pictures, callback):
    left, right = pictures[:12], pictures[12:]
    model.fit([left, right], np.arange(12) % 2, epochs=2, batch_size=4, verbose=0, callbacks=[callback])


@pytest.mark.parametrize("call", [0, 1])
def test_each_call_of_a_shared_network_explains_its_own_picture(pictures, tmp_path, call):
    model, _ = siamese()
    left, right = pictures[:4], pictures[12:16]
    explainer = Explainer(model, layer="last", target=1, layer_call=call)
    callback = GuidedGradCAMCallback([left, right], tmp_path, explainer=explainer, on_error="raise")
    fit_siamese(model, pictures, callback)
    expected = Explainer(model, layer="last", target=1, input_index=call)([left, right])
    np.testing.assert_allclose(callback.history.maps[-1], expected.gradcam, rtol=2e-3, atol=1e-6)
    found = events(tmp_path)
    stored = make_ndarray(found["gradcam_tab/pictures"][0].tensor_proto)
    for png, picture in zip(stored, (left, right)[call], strict=True):
        shown = opened(png).astype(np.float32) / 255
        np.testing.assert_allclose(shown, picture, atol=0.01)


def test_the_map_of_one_picture_is_not_taken_from_the_other(pictures):
    """By default the first picture is explained; the last call of the shared network sees the second."""
    model, backbone = siamese()
    left, right = pictures[:3], pictures[3:6]
    result = explain(model, [left, right], target=1)
    head, features = model.layers[-1], tensor(left)
    for layer in backbone.layers[:3]:
        features = layer(features)

    def score(tail):
        for layer in backbone.layers[3:]:
            tail = layer(tail)
        return (keras.ops.square(tail - backbone(right)) @ head.kernel + head.bias)[:, 0]

    features, gradient = numbers(features), numbers(score_and_gradient(score, features)[1])
    weighted = (gradient.mean(axis=(1, 2), keepdims=True) * features).sum(-1)
    np.testing.assert_allclose(result.gradcam, np.maximum(weighted, 0), rtol=1e-4, atol=1e-7)


def test_the_shared_network_alone_is_watched_by_its_explainer(pictures, tmp_path):
    model, backbone = siamese()
    callback = GuidedGradCAMCallback(
        (pictures[:8], IDENTITIES[:8]),
        tmp_path,
        explainer=Explainer(model.get_layer("backbone"), target=Similarity()),
        on_error="raise",
    )
    fit_siamese(model, pictures, callback)
    expected = explain(backbone, pictures[:8], target=Similarity(pictures[[1, 2, 3, 0, 5, 6, 7, 4]]))
    np.testing.assert_allclose(callback.history.maps[-1], expected.gradcam, rtol=2e-3, atol=1e-6)


def test_the_embedding_within_a_classifier_is_watched_as_a_model_of_its_layers(pictures, tmp_path):
    classifier = keras.Sequential([keras.Input((20, 12, 3)), *layers(), keras.layers.Dense(6, activation="softmax")])
    classifier.compile("sgd", "sparse_categorical_crossentropy")
    within = keras.Model(classifier.inputs, classifier.layers[-2].output)
    callback = GuidedGradCAMCallback(
        (pictures[:8], IDENTITIES[:8]),
        tmp_path,
        explainer=Explainer(within, target=Similarity()),
        on_error="raise",
    )
    classifier.fit(pictures, IDENTITIES, epochs=2, verbose=0, callbacks=[callback])
    expected = explain(within, pictures[:8], target=Similarity(pictures[[1, 2, 3, 0, 5, 6, 7, 4]]))
    np.testing.assert_allclose(callback.history.maps[-1], expected.gradcam, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(callback.history.numbers["score"][-1], expected.scores, rtol=1e-4)


# --- training does not notice ---------------------------------------------------------------------------------------


def weights_after(callbacks, data, **compile_options):
    model = small_model(optimizer="adam", **compile_options)
    model.fit(*data, epochs=2, batch_size=8, verbose=0, callbacks=callbacks)
    return model.get_weights()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"run_eagerly": True},
        pytest.param({"jit_compile": True}, marks=tensorflow_only),  # is what JAX does anyway; torch needs a compiler
        pytest.param({"steps_per_execution": 2}, marks=compiled_only),
    ],
    ids=["plain", "run_eagerly", "jit_compile", "steps_per_execution"],
)
def test_training_gives_the_same_weights_bit_for_bit(data, tmp_path, options):
    expected = weights_after([], data, **options)
    got = weights_after([GuidedGradCAMCallback(Probe(data, limit=3), tmp_path)], data, **options)
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_array_equal(one, other)
    assert steps(tmp_path) == [0, 1]


def test_training_with_pairs_and_a_gallery_gives_the_same_weights(pictures, tmp_path):
    plain = embedding_model()
    plain.fit(pictures, IDENTITIES, epochs=3, batch_size=8, verbose=0)
    watched = embedding_model()
    callback = GuidedGradCAMCallback(
        (pictures[:8] * 0.9, IDENTITIES[:8]),
        tmp_path,
        target=Similarity(),
        gallery=(pictures, IDENTITIES),
        on_error="raise",
    )
    watched.fit(pictures, IDENTITIES, epochs=3, batch_size=8, verbose=0, callbacks=[callback])
    for one, other in zip(plain.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@tensorflow_only
def test_a_custom_train_step(data, tmp_path):
    import tensorflow as tf

    class Custom(keras.Model):
        def __init__(self):
            super().__init__()
            self.body = small_model(compiled=False)

        def call(self, x, training=False):
            return self.body(x, training=training)

        def train_step(self, batch):
            x, y = batch
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            return {"loss": loss}

    model = Custom()
    model.compile("sgd", "sparse_categorical_crossentropy")
    callback = GuidedGradCAMCallback(Probe(data, limit=3), tmp_path)
    fit(model, data, callback)
    assert steps(tmp_path) == [0, 1]
    assert callback._explainer(data[0][:3]).layer.endswith("/last")


@compiled_only
def test_one_trace_for_many_epochs(data, tmp_path):
    traces = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            traces.append(1)
            return keras.ops.relu(x)

    model = keras.Sequential(
        [
            keras.Input((16, 12, 3)),
            keras.layers.Conv2D(4, 3),
            Counting(),
            keras.layers.GlobalMaxPooling2D(),
            keras.layers.Dense(3),
        ]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*data, epochs=1, verbose=0)
    before = len(traces)
    after_one = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: after_one.append(len(traces)))
    model.fit(*data, epochs=10, verbose=0, callbacks=[GuidedGradCAMCallback(Probe(data, limit=2), tmp_path), note])
    assert set(after_one) == {len(traces)}
    if BACKEND == "tensorflow":
        assert len(traces) == before + 1
    assert steps(tmp_path) == list(range(10))


@tensorflow_only
def test_beside_keras_tensorboard_in_any_order(data, tmp_path):
    for place, order in enumerate(([0, 1], [1, 0])):
        log_dir = tmp_path / str(place)
        callbacks = [
            keras.callbacks.TensorBoard(log_dir, update_freq=1),
            GuidedGradCAMCallback(Probe(data, limit=1), log_dir, methods="gradcam"),
        ]
        fit(small_model(), data, [callbacks[position] for position in order], epochs=3)
        assert steps(log_dir) == [0, 1, 2]
        accumulator = EventAccumulator(str(log_dir / "train"), size_guidance={"tensors": 0})
        accumulator.Reload()
        assert [event.step for event in accumulator.Tensors("epoch_loss")] == [0, 1, 2]


def test_the_options_are_few():
    options = list(inspect.signature(GuidedGradCAMCallback.__init__).parameters)[1:]
    assert options == [
        "probe", "log_dir", "explainer", "layer", "target", "methods", "gallery", "filters", "class_names", "every",
        "style", "save_dir", "writers", "logs", "on_error",
    ]  # fmt: skip


# --- writers of one's own --------------------------------------------------------------------------------------------


class Noting:
    """Notes what it is asked to do, and by which thread; fails where it is told to."""

    def __init__(self, fails=""):
        self.fails, self.calls, self.threads = fails, [], set()

    def _note(self, name, value):
        self.calls.append((name, value))
        self.threads.add(threading.get_ident())
        if name == self.fails:
            raise RuntimeError(f"{name} is broken")

    def prepare(self, run):
        self._note("prepare", run)

    def write(self, entry):
        self._note("write", entry)

    def summarize(self, summary):
        self._note("summarize", summary)

    def close(self):
        self._note("close", None)


def test_writers_get_the_run_every_entry_and_the_summary(data, tmp_path):
    writer = Noting()
    probe = Probe(data, limit=2, regions=[(0, 0, 6, 8)] * 2)
    callback = GuidedGradCAMCallback(probe, tmp_path, class_names=["a", "b", "c"], writers=[writer], on_error="raise")
    logs = fit(small_model(), data, callback).history
    assert [name for name, _ in writer.calls] == ["prepare", "write", "write", "write", "summarize", "close"]
    (_, run), *entries, (_, summary), _ = writer.calls
    assert run.info.class_names == {0: "a", 1: "b", 2: "c"}
    assert [probe.label for probe in run.info.probes] == [0, 1]
    assert run.pictures.shape == (2, 16, 12, 3)
    assert run.partner_pictures is None
    records = [entry.record for _, entry in entries]
    assert [(record.title, record.step, record.is_start) for record in records] == [
        ("start", 0, True), ("epoch 0", 0, False), ("epoch 1", 1, False)
    ]  # fmt: skip
    for record, mean in zip(records[1:], logs["gradcam_mass_inside"], strict=True):
        assert record.means()["mass_inside"] == mean
    assert {len(entry.frames) for _, entry in entries} == {2}
    np.testing.assert_array_equal(summary.history.maps, callback.history.maps)
    assert summary.report == callback.report()
    assert len(summary.filmstrips) == 2
    assert len(writer.threads) == 2  # writing and summarizing has a thread of its own


@pytest.mark.parametrize("method", ["prepare", "write", "summarize", "close"])
def test_a_faulty_writer_is_warned_of_once_and_costs_the_others_nothing(data, tmp_path, method):
    before, faulty, after = Noting(), Noting(fails=method), Noting()
    callback = GuidedGradCAMCallback(Probe(data, limit=1), tmp_path, methods="gradcam", writers=[before, faulty, after])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(small_model(), data, callback)
    assert len(history.epoch) == 2
    (told,) = [str(warning.message) for warning in caught if "is broken" in str(warning.message)]
    assert told.startswith(
        f"GuidedGradCAMCallback could not write with Noting and training goes on: RuntimeError: {method}"
    )
    expected = ["prepare", "write", "write", "write", "summarize", "close"]
    for writer in (before, after):
        assert [name for name, _ in writer.calls] == expected
    # Without a beginning there is nothing to go on with; any other failure is of the moment.
    assert [name for name, _ in faulty.calls] == (["prepare"] if method == "prepare" else expected)
    assert steps(tmp_path) == [0, 1]
    assert "gradcam/report" in events(tmp_path)


def test_two_faulty_writers_are_both_warned_of_and_again_in_the_next_training(data, tmp_path):
    callback = GuidedGradCAMCallback(
        Probe(data, limit=1), tmp_path, methods="gradcam", writers=[Noting("write"), Noting("write")]
    )
    for epochs in (1, 1):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(small_model(), data, callback, epochs=epochs)
        assert sum("write is broken" in str(warning.message) for warning in caught) == 2


def test_a_faulty_writer_can_stop_the_training_and_the_others_are_closed(data, tmp_path):
    faulty, after = Noting("close"), Noting()
    callback = GuidedGradCAMCallback(
        Probe(data, limit=1), tmp_path, methods="gradcam", writers=[faulty, after], on_error="raise"
    )
    with pytest.raises(RuntimeError, match="close is broken"):
        fit(small_model(), data, callback, epochs=1)
    assert after.calls[-1] == ("close", None)


def test_a_writer_can_keep_a_training_from_beginning_in_vain(data, tmp_path):
    class Full(Noting):
        def prepare(self, run):
            raise ArgumentError("project", "be one with room left", "'full'")

    before = Noting()
    model = small_model()
    with pytest.raises(ArgumentError, match="`project` must be one with room left"):
        fit(model, data, GuidedGradCAMCallback(Probe(data, limit=3), tmp_path, writers=[before, Full()]))
    assert model.optimizer.iterations == 0
    assert [name for name, _ in before.calls] == ["prepare", "close"]


# --- going on -------------------------------------------------------------------------------------------------------


def test_a_second_fit_and_initial_epoch_continue_with_absolute_epochs(data, tmp_path):
    model, callback = small_model(), GuidedGradCAMCallback(Probe(data, limit=1), tmp_path, methods="gradcam")
    fit(model, data, callback, epochs=2)
    fit(model, data, callback, epochs=4, initial_epoch=2)
    logged = events(tmp_path)
    assert [event.step for event in logged["gradcam/overview"]] == [0, 1, 2, 3]
    assert [event.step for event in logged["gradcam_start/overview"]] == [0]


def test_backup_and_restore(data, tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    # Before BackupAndRestore in the list, where `on_train_begin` sees weights that are not restored yet.
    def callbacks(*more):
        return [
            GuidedGradCAMCallback(Probe(data, limit=1), tmp_path / "logs", methods="gradcam"),
            keras.callbacks.BackupAndRestore(tmp_path / "backup"),
            *more,
        ]

    with pytest.raises(KeyboardInterrupt):
        fit(small_model(), data, callbacks(Interrupt()), epochs=4)
    fit(small_model(), data, callbacks(), epochs=4)
    assert sorted(steps(tmp_path / "logs")) == [0, 1, 2, 3]
    assert len(events(tmp_path / "logs")["gradcam_start/overview"]) == 1


def test_an_interrupted_training_can_be_closed(data, tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    callback = GuidedGradCAMCallback(Probe(data, limit=1), tmp_path, methods="gradcam", save_dir=tmp_path / "saved")
    with pytest.raises(KeyboardInterrupt):
        fit(small_model(), data, [callback, Interrupt()], epochs=4)
    callback.close()
    assert "2 epochs logged" in (tmp_path / "saved" / "report.md").read_text()
    assert (tmp_path / "saved" / "manifest.json").exists()
    assert len(events(tmp_path)["gradcam/report"]) == 1
    callback.close()
    assert len(events(tmp_path)["gradcam/report"]) == 1


# --- what goes wrong ------------------------------------------------------------------------------------------------


def bad_constructor_cases():
    images, labels = np.zeros((4, 16, 12, 3)), np.arange(4) % 3
    return {
        "empty": ((images[:0],), {}, "at least one picture"),
        "text": (("pictures",), {}, "`probe` must hold pictures"),
        "labels short": (((images, labels[:2]),), {}, "one label per picture"),
        "labels words": (((images, np.array(["cat"] * len(images))),), {}, "class numbers"),
        "a single picture": (((images[0], np.int64(1)),), {}, r"image\[None\], label\[None\]"),
        "a picture and its row": (((images[0], np.eye(3)[1]),), {}, r"image\[None\], label\[None\]"),
        "every": ((images,), {"every": 0}, "`every`"),
        "on_error": ((images,), {"on_error": "ignore"}, "`on_error`"),
        "target": ((images,), {"target": "cat"}, "`target`"),
        "names": ((images,), {"class_names": "cat"}, "`class_names`"),
        "names in a set": ((images,), {"class_names": {"cat", "dog"}}, "`class_names`"),
        "display": ((Probe(images, display_images=images[:2]),), {}, "`display_images`"),
    }


@pytest.mark.parametrize("case", bad_constructor_cases())
def test_the_constructor_refuses(case):
    arguments, options, message = bad_constructor_cases()[case]
    with pytest.raises(ValueError, match=message):
        GuidedGradCAMCallback(*arguments, **options)


def bad_training_cases():
    images, labels = np.zeros((4, 16, 12, 3)), np.arange(4) % 3
    return {
        "layer": ((images,), {"layer": "lost"}, r"(?s)`layer` must.*Received: 'lost'.*Candidates: .*'last'"),
        "shape": ((images[:, :8],), {}, "`images` must have the shape"),
        "single": ((images[0],), {}, "`images` must"),
        "label": (((images, labels + 7),), {}, "Candidates: 0 to 2"),
        "names": (((images, labels),), {"class_names": ["cat", "dog"]}, "`class_names` must name the classes 0 to 2"),
        "methods": ((images,), {"methods": ["lime"]}, "`methods`"),
        "function": ((images,), {"target": lambda outputs: outputs}, "one score per sample"),
        "function of one sample": ((images,), {"target": lambda outputs: outputs[0]}, "one score per sample"),
        "list for a tuple": (([images, labels],), {}, r"(?s)one array for each.*tuple"),
        "unit": ((images,), {"target": Unit(3)}, "Candidates: 0 to 2"),
        "log_dir": ((images,), {"log_dir": "/proc/nothing"}, "`log_dir` must be a folder"),
        "save_dir": ((images,), {"save_dir": "/proc/nothing"}, "`save_dir` must be a folder"),
    }


@pytest.mark.parametrize("case", bad_training_cases())
def test_training_does_not_begin_with_what_cannot_work(data, tmp_path, case):
    arguments, options, message = bad_training_cases()[case]
    model = small_model()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        fit(model, data, GuidedGradCAMCallback(*arguments, **{"log_dir": tmp_path, **options}))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_training_does_not_begin_with_maps_of_anything_but_the_pictures(data, tmp_path):
    inputs = keras.Input(data[0].shape[1:])
    both = keras.ops.concatenate([inputs, keras.ops.flip(inputs, 2)], axis=0)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu", name="conv")(both))
    model = keras.Model(inputs, sum(keras.ops.split(keras.layers.Dense(3)(x), 2, axis=0)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="`layer` must give one map per sample"):
        model.fit(
            *data, verbose=0, callbacks=[GuidedGradCAMCallback(Probe(data, limit=3), tmp_path, methods="gradcam")]
        )
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize("where", ["compute", "write"])
def test_a_failure_in_the_middle_warns_once_and_training_goes_on(data, tmp_path, monkeypatch, where):
    callback = GuidedGradCAMCallback(Probe(data, limit=1), tmp_path, methods="gradcam")
    fails, name = (ProbeMonitor, "measure") if where == "compute" else (TensorBoardWriter, "write")
    original = getattr(fails, name)
    calls = []

    def failing(*arguments, **options):
        calls.append(1)
        if len(calls) in (3, 4):  # the start, epoch 0, then epochs 1 and 2
            raise OSError("disk full")
        return original(*arguments, **options)

    monkeypatch.setattr(fails, name, failing)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(small_model(), data, callback, epochs=5)
    assert sum("disk full" in str(warning.message) for warning in caught) == 1
    assert len(history.epoch) == 5
    assert steps(tmp_path) == [0, 3, 4]


class Untraceable(keras.layers.Layer):
    """Trains, but fails where this package traces the model."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def call(self, x):
        engine = os.path.join("keras_gradcam", "engine")
        if self.error is not None and any(engine in frame.filename for frame in traceback.extract_stack()):
            raise self.error
        return x


def untraceable(error):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((16, 12, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            Untraceable(None),
            keras.layers.Dropout(0.3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.layers[1].error = error
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(
    "error",
    [NotImplementedError("no symbolic tensors"), LookupError("No gradient defined"), TypeError("not on this thread")],
    ids=lambda error: type(error).__name__,
)
def test_a_model_that_trains_but_cannot_be_traced_ends_no_training(data, tmp_path, error):
    callback = GuidedGradCAMCallback(Probe(data, limit=2), tmp_path / "a", methods="gradcam")
    watched = untraceable(error)
    with pytest.warns(RuntimeWarning, match=rf"could not log and training goes on: {type(error).__name__}") as caught:
        history = fit(watched, data, callback, epochs=3)
    assert len([warning for warning in caught if "training goes on" in str(warning.message)]) == 1
    assert len(history.epoch) == 3
    plain = untraceable(error)
    fit(plain, data, [], epochs=3)
    for one, other in zip(watched.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert callback.history.epochs.tolist() == []
    assert callback.report() == "No epoch was logged.\n"
    callback.close()
    with pytest.raises(type(error)):
        fit(watched, data, GuidedGradCAMCallback(Probe(data, limit=2), tmp_path / "b", on_error="raise"))
    # What the user's arguments have wrong still raises before anything is trained.
    model = untraceable(None)
    with pytest.raises(ArgumentError, match="`layer` must"):
        fit(model, data, GuidedGradCAMCallback(Probe(data, limit=2), tmp_path / "c", layer="nowhere"))
    assert model.optimizer.iterations == 0


def test_a_failure_can_stop_the_training(data, tmp_path, monkeypatch):
    callback = GuidedGradCAMCallback(Probe(data, limit=1), tmp_path, methods="gradcam", on_error="raise")
    monkeypatch.setattr(ProbeMonitor, "measure", lambda *arguments, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(small_model(), data, callback)


def test_two_callbacks_in_one_training_are_told_apart_or_said(data, tmp_path):
    def callbacks(one, other, **options):
        return [
            GuidedGradCAMCallback(Probe(data, limit=1), tmp_path / one, methods="gradcam"),
            GuidedGradCAMCallback(Probe(data, limit=1), tmp_path / other, methods="gradcam", **options),
        ]

    with pytest.warns(UserWarning, match="names of its own: `logs="):
        fit(small_model(), data, callbacks("a", "b"), epochs=1)
    with pytest.warns(UserWarning, match="still writes to"):
        fit(small_model(), data, callbacks("c", "c", logs={"other_focus": "focus"}), epochs=1)
    history = fit(small_model(), data, callbacks("d", "e", logs={"other_focus": "focus"}), epochs=1).history
    assert {"gradcam_focus", "other_focus"} <= set(history)
    assert {len(values) for values in history.values()} == {1}


@tensorflow_only
def test_mirrored_strategy(tmp_path):
    program = textwrap.dedent(f"""
        import numpy as np, tensorflow as tf, keras
        cpus = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
        from keras_gradcam import GuidedGradCAMCallback, Probe, explain
        x, y = np.random.default_rng(0).random((16, 16, 16, 3), dtype="float32"), np.arange(16) % 2
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
                                      keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
            model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        callback = GuidedGradCAMCallback(Probe((x, y), limit=2), {str(tmp_path)!r})
        model.fit(x, y, epochs=2, batch_size=8, verbose=0, callbacks=[callback])
        plain = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
                                  keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        plain.set_weights(model.get_weights())
        one, other = callback._explainer(x[:2]), explain(plain, x[:2], target=y[:2])
        np.testing.assert_allclose(one.guided_gradcam, other.guided_gradcam, rtol=1e-5, atol=1e-9)
        print("same maps")
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert "same maps" in done.stdout, done.stderr[-2000:]
    assert steps(tmp_path) == [0, 1]


DISTRIBUTIONS = {
    "the same model on each": "distribution = keras.distribution.DataParallel()",
    "a model that is split": """
        layout = keras.distribution.LayoutMap(keras.distribution.DeviceMesh((2, 2), ("batch", "model")))
        layout[".*conv.*kernel"] = (None, None, None, "model")
        distribution = keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")""",
}


@jax_only
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_training_on_several_devices(tmp_path, name):
    program = textwrap.dedent(f"""
        import os
        os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
        import numpy as np, keras
        {DISTRIBUTIONS[name]}
        keras.distribution.set_distribution(distribution)
        from keras_gradcam import GuidedGradCAMCallback, Probe, explain
        x, y = np.random.default_rng(0).random((16, 16, 16, 3), dtype="float32"), np.arange(16) % 2

        def build():
            keras.utils.set_random_seed(0)
            model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
                                      keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
            model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            return model

        plain = build()
        plain.fit(x, y, epochs=2, batch_size=8, verbose=0)
        model = build()
        callback = GuidedGradCAMCallback(Probe((x, y), limit=3), {str(tmp_path)!r}, on_error="raise")
        model.fit(x, y, epochs=2, batch_size=8, verbose=0, callbacks=[callback])
        assert len(model.layers[0].kernel.value.sharding.device_set) == 4
        for one, other in zip(model.get_weights(), plain.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        keras.distribution.set_distribution(None)
        alone = keras.models.clone_model(model)
        alone.set_weights(model.get_weights())
        one, other = callback._explainer(x[:3]), explain(alone, x[:3], target=y[:3])
        np.testing.assert_allclose(one.guided_gradcam, other.guided_gradcam, rtol=1e-5, atol=1e-9)
        print("same maps")
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert "same maps" in done.stdout, done.stderr[-2000:]
    assert steps(tmp_path) == [0, 1]


def test_grey_pictures_without_a_channel_axis(tmp_path):
    images, labels = np.random.default_rng(0).random((8, 14, 14), dtype=np.float32), np.arange(8) % 2
    model = keras.Sequential(
        [
            keras.Input((14, 14)),
            keras.layers.Reshape((14, 14, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = dataset(images, labels).batch(4) if BACKEND == "tensorflow" else (images, labels)
    callback = GuidedGradCAMCallback(Probe(data, limit=6), tmp_path)
    given = (data,) if BACKEND == "tensorflow" else data
    model.fit(*given, epochs=1, shuffle=False, verbose=0, callbacks=[callback])
    np.testing.assert_array_equal(callback._samples.images, images[:6])
    assert decoded(events(tmp_path)["gradcam/probe_00"][0]).shape[1] > 4 * 190


# --- processes and warnings -----------------------------------------------------------------------------------------


def test_a_later_process_of_a_distributed_training_checks_its_arguments_and_writes_nothing(data, tmp_path, monkeypatch):
    become_second_process(monkeypatch)
    with pytest.raises(ArgumentError, match="`layer` must"):
        fit(small_model(), data, GuidedGradCAMCallback(data, tmp_path, layer="no such layer"))
    callback = GuidedGradCAMCallback(data, tmp_path, on_error="raise")
    fit(small_model(), data, callback)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    assert len(callback.history.epochs) == 0


@pytest.mark.expects_logged_warnings
def test_a_failure_does_not_end_a_training_in_which_warnings_are_errors(data, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(TensorBoardWriter, "write_numbers", full)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = fit(small_model(), data, GuidedGradCAMCallback(Probe(data, limit=2), tmp_path), epochs=2)
    assert len(history.history["loss"]) == 2
    (message,) = [text for text in caplog.messages if "could not" in text]
    assert "could not write with TensorBoardWriter and training goes on: OSError: disk full" in message


def test_the_name_of_a_colormap_is_a_style(data, tmp_path):
    callback = GuidedGradCAMCallback(Probe(data, limit=2), tmp_path, style="jet", on_error="raise")
    fit(small_model(), data, callback, epochs=1)
    assert callback._frames.run.info.colormap == "jet"


def test_pictures_that_cannot_be_searched_are_refused_before_the_first_batch(data, tmp_path):
    callback = GuidedGradCAMCallback(data, tmp_path, filters=Filters(images="no pictures"))
    with pytest.raises(ArgumentError, match="`images` must hold pictures"):
        fit(small_model(), data, callback)
