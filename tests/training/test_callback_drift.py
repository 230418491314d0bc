"""Drift in a training: scalars, Keras' logs, regions, history, filmstrips and the tab's data."""

from __future__ import annotations

import copy
import csv

import keras
import numpy as np
import pytest
from tensorboard.util.tensor_util import make_ndarray
from trainings import N, decoded, events, fit, scalar, small_model

from keras_gradcam import Explainer, GuidedGradCAMCallback, metrics
from keras_gradcam.drawing.pixels import Style
from keras_gradcam.tensorboard_plugin.metadata import RunInfo
from keras_gradcam.training.history import COLUMNS


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.random((N, 16, 12, 3), dtype=np.float32), np.arange(N) % 3


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
    callback = GuidedGradCAMCallback(data, tmp_path, max_probes=4, regions=[box] * 4)
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
        np.testing.assert_allclose([scalar(event) for event in logged[f"gradcam_{name}/mean"]], means, atol=2e-3)
        for number in range(4):
            tag = f"gradcam_{name}/probe_{number:02d}"
            present = values[:, number][~np.isnan(values[:, number])]
            np.testing.assert_allclose([scalar(e) for e in logged.get(tag, [])], present, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(callback.history.maps, maps, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(callback.history.start.maps, start, rtol=2e-3, atol=1e-4)


def test_training_can_be_steered_by_attention(data, tmp_path):
    monitored = "gradcam_mass_inside"
    callbacks = [
        GuidedGradCAMCallback(data, tmp_path, max_probes=2, regions=[(0, 0, 6, 8)] * 2),
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
    callback = GuidedGradCAMCallback(data, tmp_path, max_probes=2, every=2)
    history = fit(small_model(), data, callback, epochs=4).history
    for name in ("gradcam_score", "gradcam_focus", "gradcam_similarity_previous"):
        assert len(history[name]) == 2
        assert np.isfinite(history[name]).all()
    assert "gradcam_mass_inside" not in history  # there are no regions


def test_two_callbacks_in_one_training_are_told_apart_or_said(data, tmp_path):
    def callbacks(folder, **options):
        return [
            GuidedGradCAMCallback(data, tmp_path / "a", max_probes=1),
            GuidedGradCAMCallback(data, tmp_path / folder, max_probes=1, **options),
        ]

    with pytest.warns(UserWarning, match="`logs_prefix`"):
        fit(small_model(), data, callbacks("b"), epochs=1)
    with pytest.warns(UserWarning, match="still writes to"):
        fit(small_model(), data, callbacks("a", logs_prefix="other_"), epochs=1)
    history = fit(small_model(), data, callbacks("c", logs_prefix="other_"), epochs=1).history
    assert {"gradcam_focus", "other_focus"} <= set(history)


def test_an_interrupted_training_can_be_closed(data, tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    callback = GuidedGradCAMCallback(data, tmp_path, max_probes=1, save_dir=tmp_path / "saved")
    with pytest.raises(KeyboardInterrupt):
        fit(small_model(), data, [callback, Interrupt()], epochs=4)
    callback.close()
    assert "2 epochs logged" in (tmp_path / "saved" / "report.md").read_text()
    assert (tmp_path / "saved" / "manifest.json").exists()
    assert len(events(tmp_path)["gradcam/report"]) == 1
    callback.close()
    assert len(events(tmp_path)["gradcam/report"]) == 1


def test_a_model_that_is_not_finite_predicts_nothing(data, tmp_path):
    model = small_model()
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * np.nan, bias])
    callback = GuidedGradCAMCallback(data, tmp_path, max_probes=2)
    with pytest.warns(RuntimeWarning, match="not finite"):
        fit(model, data, callback, epochs=1)
    assert np.isnan(callback.history.numbers["predicted"]).all()
    assert "no classes" in callback.report()
    assert callback._captions.said(callback._recorder.records[0], 0) == ("", False)


def test_the_callback_can_be_copied_after_training(data, tmp_path):
    callback = GuidedGradCAMCallback(data, tmp_path, max_probes=1)
    fit(small_model(), data, callback, epochs=1)
    assert copy.deepcopy(callback).history.epochs.tolist() == [0]


def test_logs_can_be_left_alone(data, tmp_path):
    history = fit(small_model(), data, GuidedGradCAMCallback(data, tmp_path, logs_prefix=None)).history
    assert set(history) == {"accuracy", "loss"}


def test_filmstrips_of_long_runs_show_twelve_epochs_and_come_in_between_when_asked(data, tmp_path):
    callback = GuidedGradCAMCallback(data, tmp_path, max_probes=1, filmstrip_every=5, methods=["gradcam"])
    fit(small_model(), data, callback, epochs=15)
    strips = events(tmp_path)["gradcam_filmstrip/probe_00"]
    assert [event.step for event in strips] == [4, 9, 14, 14]
    width = 16 + 12 * (192 + 6) - 6  # 12 pictures, enlarged 16 times
    assert decoded(strips[-1]).shape[1] == width
    assert len(callback._filmstrips(callback.history)[0].frames) == 12
    assert callback._filmstrips(callback.history)[0].captions[0][0] == "epoch 0"
    assert callback._filmstrips(callback.history)[0].captions[-1][0] == "epoch 14"


def test_the_tab_gets_every_epoch(data, tmp_path):
    box = (1, 2, 5, 6)
    callback = GuidedGradCAMCallback(
        data,
        tmp_path,
        max_probes=2,
        class_names=["cat", "dog", "cow"],
        regions=[box, np.ones((16, 12))],
        style=Style(colormap="viridis", scale="frame"),
    )
    fit(small_model(), data, callback, epochs=3)
    logged = events(tmp_path)
    info = RunInfo.from_json(make_ndarray(logged["gradcam_tab/run"][0].tensor_proto).item())
    assert info.columns == COLUMNS
    assert info.class_names == {0: "cat", 1: "dog", 2: "cow"}
    assert [probe.label for probe in info.probes] == [0, 1]
    assert [probe.region for probe in info.probes] == [box, (0, 0, 12, 16)]
    assert (info.layer, info.input_size) == ("last", (16, 12))
    assert (info.colormap, info.scale) == ("viridis", "frame")
    for place, record in enumerate(callback._recorder.records):
        np.testing.assert_array_equal(make_ndarray(logged["gradcam_tab/maps"][place].tensor_proto), record.maps)
        np.testing.assert_array_equal(make_ndarray(logged["gradcam_tab/numbers"][place].tensor_proto), record.numbers)
    assert len(make_ndarray(logged["gradcam_tab/pictures"][0].tensor_proto)) == 2
    assert len(logged["gradcam_tab/guided"]) == 3
    assert len(logged["gradcam_tab/start_maps"]) == 1


def test_without_gradcam_there_is_no_drift(data, tmp_path):
    callback = GuidedGradCAMCallback(data, tmp_path, max_probes=1, methods=["guided_backprop"])
    fit(small_model(), data, callback)
    assert callback.history.maps is None
    tags = set(events(tmp_path))
    assert not {tag for tag in tags if "similarity" in tag or "filmstrip" in tag or tag == "gradcam_tab/maps"}
    assert "gradcam_tab/guided" in tags
    assert "no map" in callback.report() or "unknown" in callback.report()


@pytest.mark.parametrize(
    "regions",
    [
        [(0, 0, 4, 4)],
        [(0.1, 0.0, 0.5, 1.0)] * 24,
        [(4, 4, 0, 0)] * 24,
        [np.ones((3, 3))] * 24,
        [(20, 0, 30, 4)] * 24,
    ],
    ids=["too few", "fractions", "reversed", "mask of another size", "outside"],
)
def test_regions_that_fit_no_probe_are_refused(data, tmp_path, regions):
    with pytest.raises(ValueError, match="`regions`"):
        fit(small_model(), data, GuidedGradCAMCallback(data, tmp_path, regions=regions))


def test_filters_are_logged_when_asked_for(data, tmp_path):
    from keras_gradcam.filters.kernels import Filters, filter_kernels
    from keras_gradcam.filters.top_activations import top_activations

    filters = Filters(images=data[0], every=2, count=3, top=2)
    callback = GuidedGradCAMCallback(data, tmp_path, filters=filters, on_error="raise", max_probes=2)
    model = small_model()
    fit(model, data, callback, epochs=5)
    found = events(tmp_path)
    assert [event.step for event in found["gradcam_filters/kernels"]] == [1, 3, 4]
    assert [event.step for event in found["gradcam_filters/top"]] == [4]
    assert {"gradcam_start_filters/kernels", "gradcam_start_filters/top"} <= set(found)
    kernels = filter_kernels(model, sort=None)
    np.testing.assert_array_equal(decoded(found["gradcam_filters/kernels"][-1]), kernels.draw("common"))
    strongest = sorted(np.argsort(-kernels.norms, kind="stable")[:3].tolist())
    expected = top_activations(model, data[0], kernels.layer, strongest, 2).draw()
    np.testing.assert_array_equal(decoded(found["gradcam_filters/top"][0]), expected)


def test_a_layer_without_kernels_is_refused_before_training(data, tmp_path):
    from keras_gradcam.filters.kernels import Filters

    with pytest.raises(ValueError, match="`layer` must name one Conv2D"):
        fit(small_model(), data, GuidedGradCAMCallback(data, tmp_path, filters=Filters("dense")))


def test_any_method_can_be_watched_and_the_first_map_on_the_grid_is_measured(data, tmp_path):
    methods = ["saliency", "layercam", "gradcam", "smoothgrad"]
    callback = GuidedGradCAMCallback(data, tmp_path, methods=methods, on_error="raise", max_probes=2)
    model = small_model()
    fit(model, data, callback, epochs=2)
    expected = Explainer(model, methods=methods)(data[0][:2], target=data[1][:2])
    np.testing.assert_allclose(callback.history.maps[-1], expected.maps["layercam"], rtol=2e-3, atol=1e-6)
    drawn = decoded(events(tmp_path)["gradcam/probe_00"][-1])
    # The picture, LayerCAM, Grad-CAM, and both gradients: five cells.
    alone = decoded(events(tmp_path)["gradcam/probe_01"][-1])
    assert drawn.shape[1] == alone.shape[1] == 5 * (12 * 16 + 6) - 6 + 16
