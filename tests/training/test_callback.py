"""The callback inside real trainings: what it logs, what it refuses, and that training does not notice it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainings import N, decoded, events, fit, scalar, small_model

from keras_gradcam import Class, GuidedGradCAMCallback, Output, Unit
from keras_gradcam.drawing.pixels import Style
from keras_gradcam.training.monitor import ProbeMonitor


def steps(log_dir, tag="gradcam/overview"):
    return [event.step for event in events(log_dir)[tag]]


# --- what is logged -------------------------------------------------------------------------------------------------


def test_every_epoch_of_every_panel_the_overview_and_the_scalars_can_be_read_back(data, tmp_path):
    model = small_model()
    fit(model, data, GuidedGradCAMCallback(data, tmp_path, max_probes=3), epochs=3)
    logged = events(tmp_path)
    probes = [f"probe_{number:02d}" for number in range(3)]
    series = ("mean", *probes)
    attention = ("similarity_previous", "similarity_first", "center_shift", "focus", "mass")
    pictures = {"gradcam/overview", *(f"gradcam/{probe}" for probe in probes)}
    assert {tag for tag in logged if not tag.startswith("gradcam_tab/")} == {
        *pictures,
        *(tag.replace("gradcam/", "gradcam_start/") for tag in pictures),
        *(f"gradcam_start/{name}_mean" for name in ("score", "probability", "focus", "mass")),
        *(f"gradcam_{name}/{one}" for name in ("score", "probability", *attention) for one in series),
        *(f"gradcam_{name}/missing" for name in attention),
        *(f"gradcam_filmstrip/{probe}" for probe in probes),
        "gradcam/report",
    }
    for tag in (*pictures, "gradcam_score/mean", "gradcam_focus/probe_01", "gradcam_tab/maps", "gradcam_tab/numbers"):
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
    fit(model, data, GuidedGradCAMCallback(data, tmp_path, max_probes=5), epochs=1)
    probabilities = model.predict(data[0][:5], verbose=0)[np.arange(5), data[1][:5]]
    logged = events(tmp_path)
    for number, expected in enumerate(probabilities):
        assert scalar(logged[f"gradcam_probability/probe_{number:02d}"][0]) == pytest.approx(expected, rel=1e-5)
    assert scalar(logged["gradcam_probability/mean"][0]) == pytest.approx(probabilities.mean(), rel=1e-5)
    features = np.asarray(keras.Sequential(model.layers[:-1])(data[0][:5], training=False))
    kernel, bias = model.layers[-1].get_weights()
    score = (features @ kernel + bias)[np.arange(5), data[1][:5]]
    assert scalar(logged["gradcam_score/mean"][0]) == pytest.approx(score.mean(), rel=1e-4)


def test_every_and_the_last_epoch(data, tmp_path):
    fit(small_model(), data, GuidedGradCAMCallback(data, tmp_path, max_probes=1, every=3), epochs=7)
    assert steps(tmp_path) == [2, 5, 6]


def test_a_training_stopped_early_gets_its_last_epoch(data, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    for place, order in enumerate(([0, 1], [1, 0])):
        log_dir = tmp_path / str(place)
        callbacks = [Stop(), GuidedGradCAMCallback(data, log_dir, max_probes=1, every=10)]
        fit(small_model(), data, [callbacks[position] for position in order], epochs=8)
        assert steps(log_dir) == [1]


def test_the_scale_of_a_run_only_grows_and_that_of_a_frame_follows_the_frame(data, tmp_path):
    for scale, growing in (("run", True), ("frame", False)):
        records = []
        callback = GuidedGradCAMCallback(data, tmp_path / scale, max_probes=2, style=Style(scale=scale))
        callback._writers[0].write = records.append
        fit(small_model(), data, callback, epochs=4)
        peaks = np.array([[frame.gradcam.max() for frame in record.frames] for record in records])
        tops = np.array([[frame.vmax for frame in record.frames] for record in records])
        np.testing.assert_allclose(tops, np.maximum.accumulate(peaks) if growing else peaks)
        assert ("(this frame)" in " ".join(records[0].frames[0].caption)) is not growing


def test_an_overview_of_the_latest_epoch_is_kept_as_a_file(data, tmp_path):
    callback = GuidedGradCAMCallback(data, tmp_path / "logs", save_dir=tmp_path / "pictures", max_probes=2)
    fit(small_model(), data, callback, epochs=1)
    saved = tf.io.decode_png((tmp_path / "pictures" / "overview.png").read_bytes()).numpy()
    np.testing.assert_array_equal(saved, decoded(events(tmp_path / "logs")["gradcam/overview"][-1]))
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
    callback = GuidedGradCAMCallback(data[0], tmp_path, max_probes=1, target=lambda outputs: outputs[:, 0, 0])
    model.fit(data[0], np.zeros((N, 2, 2)), verbose=0, callbacks=[callback])
    tags = {tag.split("/")[0] for tag in events(tmp_path)}
    assert "gradcam_score" in tags
    assert "gradcam_probability" not in tags


# --- what is explained ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["array", "tensor", "one_hot", "dataset", "unbatched", "pydataset", "list"])
def test_probes_of_every_kind_give_the_same_pictures_and_labels(data, kind):
    images, labels = data

    class Batches(keras.utils.PyDataset):
        num_batches = None  # endless

        def __getitem__(self, index):
            part = slice(index * 3 % N, index * 3 % N + 3)
            return images[part], labels[part]

        def __len__(self):
            return 8

    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    probe = {
        "array": (images, labels),
        "tensor": (tf.constant(images), tf.constant(labels)),
        "one_hot": (images, np.eye(3)[labels]),
        "dataset": dataset.batch(3).repeat(),
        "unbatched": dataset,
        "pydataset": Batches(),
        "list": (list(images), list(labels)),
    }[kind]
    taken = GuidedGradCAMCallback(probe, max_probes=7)._probe
    np.testing.assert_array_equal(taken.images, images[:7])
    np.testing.assert_array_equal(taken.labels, labels[:7])


def test_the_probe_is_a_copy(data):
    images = data[0].copy()
    taken = GuidedGradCAMCallback(images)._probe
    images[:] = 0
    np.testing.assert_array_equal(taken.images, data[0][:16])


def test_the_target_is_the_label_or_else_the_prediction(data):
    assert repr(GuidedGradCAMCallback(data, max_probes=3)._target) == "Class([0, 1, 2])"
    assert repr(GuidedGradCAMCallback(data[0])._target) == "Class()"
    assert repr(GuidedGradCAMCallback(data, target=Unit(2))._target) == "Unit(2)"


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
    callback = GuidedGradCAMCallback(inputs, tmp_path, max_probes=4, target=target, class_names=["a", "b", "c"])
    model.fit(inputs, truth, epochs=1, verbose=0, callbacks=[callback])
    logits = model.predict(inputs, verbose=0)["kind"][:4]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = probabilities[np.arange(4), truth["kind"][:4]].mean()
    assert scalar(events(tmp_path)["gradcam_probability/mean"][0]) == pytest.approx(expected, rel=1e-5)


# --- training does not notice ---------------------------------------------------------------------------------------


def weights_after(callbacks, data, **compile_options):
    model = small_model(**compile_options)
    model.fit(*data, epochs=2, batch_size=8, verbose=0, callbacks=callbacks)
    return model.get_weights()


@pytest.mark.parametrize(
    "options",
    [{}, {"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 2}],
    ids=["plain", "run_eagerly", "jit_compile", "steps_per_execution"],
)
def test_training_gives_the_same_weights_bit_for_bit(data, tmp_path, options):
    expected = weights_after([], data, **options)
    got = weights_after([GuidedGradCAMCallback(data, tmp_path)], data, **options)
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_array_equal(one, other)
    assert steps(tmp_path) == [0, 1]


def test_a_custom_train_step(data, tmp_path):
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
    model.compile("adam", "sparse_categorical_crossentropy")
    callback = GuidedGradCAMCallback(data, tmp_path)
    fit(model, data, callback)
    assert steps(tmp_path) == [0, 1]
    assert callback._explainer(data[0][:16]).layer.endswith("/last")


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
    model.fit(*data, epochs=10, verbose=0, callbacks=[GuidedGradCAMCallback(data, tmp_path, max_probes=2)])
    assert len(traces) == before + 1
    assert steps(tmp_path) == list(range(10))


def test_beside_keras_tensorboard_in_any_order(data, tmp_path):
    for place, order in enumerate(([0, 1], [1, 0])):
        log_dir = tmp_path / str(place)
        callbacks = [
            keras.callbacks.TensorBoard(log_dir, update_freq=1),
            GuidedGradCAMCallback(data, log_dir, max_probes=1),
        ]
        fit(small_model(), data, [callbacks[position] for position in order], epochs=3)
        assert steps(log_dir) == [0, 1, 2]
        accumulator = EventAccumulator(str(log_dir / "train"), size_guidance={"tensors": 0})
        accumulator.Reload()
        assert [event.step for event in accumulator.Tensors("epoch_loss")] == [0, 1, 2]


# --- going on -------------------------------------------------------------------------------------------------------


def test_a_second_fit_and_initial_epoch_continue_with_absolute_epochs(data, tmp_path):
    model, callback = small_model(), GuidedGradCAMCallback(data, tmp_path, max_probes=1)
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
            GuidedGradCAMCallback(data, tmp_path / "logs", max_probes=1),
            keras.callbacks.BackupAndRestore(tmp_path / "backup"),
            *more,
        ]

    with pytest.raises(KeyboardInterrupt):
        fit(small_model(), data, callbacks(Interrupt()), epochs=4)
    fit(small_model(), data, callbacks(), epochs=4)
    assert sorted(steps(tmp_path / "logs")) == [0, 1, 2, 3]
    assert len(events(tmp_path / "logs")["gradcam_start/overview"]) == 1


def test_the_event_file_can_be_read_after_kill_9(tmp_path):
    program = textwrap.dedent(f"""
        import keras, numpy as np
        from keras_gradcam import GuidedGradCAMCallback
        x, y = np.random.rand(8, 16, 16, 3), np.arange(8) % 2
        model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
                                  keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        model.compile("sgd", "mse")
        model.fit(x, keras.ops.one_hot(y, 2), epochs=10000, verbose=0,
                  callbacks=[GuidedGradCAMCallback((x, y), {str(tmp_path)!r}, max_probes=1)])
    """)
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    try:
        deadline = time.time() + 120
        while time.time() < deadline and process.poll() is None:
            files = list(tmp_path.glob("gradcam/events*"))
            if files and len(events(tmp_path).get("gradcam/overview", ())) > 3:
                break
            time.sleep(0.5)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    logged = steps(tmp_path)
    assert len(logged) > 3
    assert logged == list(range(len(logged)))


# --- what goes wrong ------------------------------------------------------------------------------------------------


def bad_constructor_cases():
    images, labels = np.zeros((4, 16, 12, 3)), np.arange(4) % 3
    return {
        "empty": ((images[:0],), {}, "at least one picture"),
        "text": (("pictures",), {}, "at least one picture"),
        "labels short": (((images, labels[:2]),), {}, "one label per picture"),
        "labels float": (((images, labels + 0.5),), {}, "class numbers"),
        "labels two-hot": (((images, np.ones((4, 3))),), {}, "class numbers"),
        "every": ((images,), {"every": 0}, "`every`"),
        "max_probes": ((images,), {"max_probes": 1.5}, "`max_probes`"),
        "on_error": ((images,), {"on_error": "ignore"}, "`on_error`"),
        "target": ((images,), {"target": "cat"}, "`target`"),
        "display": ((images,), {"display_images": images[:2]}, "`display_images`"),
        "names": ((images,), {"class_names": "cat"}, "`class_names`"),
        "names in a set": ((images,), {"class_names": {"cat", "dog"}}, "`class_names`"),
        "one display picture": ((images,), {"display_images": np.zeros((16, 12, 3))}, "`display_images`"),
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
        model.fit(*data, verbose=0, callbacks=[GuidedGradCAMCallback(data, tmp_path)])
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize("where", ["compute", "write"])
def test_a_failure_in_the_middle_warns_once_and_training_goes_on(data, tmp_path, monkeypatch, where):
    callback = GuidedGradCAMCallback(data, tmp_path, max_probes=1)
    original = ProbeMonitor.measure if where == "compute" else callback._writers[0]._writer.write
    calls = []

    def failing(*arguments, **options):
        calls.append(1)
        if len(calls) in (3, 4):  # the start, epoch 0, then epochs 1 and 2
            raise OSError("disk full")
        return original(*arguments, **options)

    if where == "compute":
        monkeypatch.setattr(ProbeMonitor, "measure", failing)
    else:
        monkeypatch.setattr(callback._writers[0]._writer, "write", failing)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(small_model(), data, callback, epochs=5)
    assert sum("disk full" in str(warning.message) for warning in caught) == 1
    assert len(history.epoch) == 5
    assert steps(tmp_path) == [0, 3, 4]


def test_a_failure_can_stop_the_training(data, tmp_path, monkeypatch):
    callback = GuidedGradCAMCallback(data, tmp_path, max_probes=1, on_error="raise")
    monkeypatch.setattr(ProbeMonitor, "measure", lambda *arguments, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(small_model(), data, callback)


def test_mirrored_strategy(tmp_path):
    program = textwrap.dedent(f"""
        import numpy as np, tensorflow as tf, keras
        cpus = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
        from keras_gradcam import GuidedGradCAMCallback, explain
        x, y = np.random.default_rng(0).random((16, 16, 16, 3), dtype="float32"), np.arange(16) % 2
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
                                      keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
            model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        callback = GuidedGradCAMCallback((x, y), {str(tmp_path)!r}, max_probes=2)
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
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    callback = GuidedGradCAMCallback(dataset, tmp_path, max_probes=6)
    model.fit(dataset, epochs=1, shuffle=False, verbose=0, callbacks=[callback])
    np.testing.assert_array_equal(callback._probe.images, images[:6])
    assert decoded(events(tmp_path)["gradcam/probe_00"][0]).shape[1] > 4 * 190
