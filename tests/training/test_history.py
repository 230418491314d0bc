"""The recorder: drift between logged epochs, resumed runs, memory."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from reid_models import CAMERAS, IDENTITIES, embedding_model

from keras_gradcam import GuidedGradCAMCallback, Similarity
from keras_gradcam.metrics import drift
from keras_gradcam.reid import Gallery
from keras_gradcam.training.history import COLUMNS, COMPARED, History, Recorder, compared


def spot(*cells, strength=1.0):
    """One map of 1 x 4 per probe with a single cell on a slope, so that no map is constant."""
    maps = np.tile(np.array([0.01, 0.02, 0.03, 0.04]), (len(cells), 1, 1))
    for number, cell in enumerate(cells):
        maps[number, 0, cell] = strength
    return maps


def predictions(samples=2, **more):
    return {"score": np.zeros(samples), **more}


def test_drift_is_measured_from_the_epoch_before_and_from_the_start():
    recorder = Recorder()
    start, first, second = spot(0, 1), spot(1, 1), spot(1, 3)
    recorder.add(None, start, predictions())
    one = recorder.add(0, first, predictions())
    two = recorder.add(1, second, predictions())
    np.testing.assert_allclose(one.column("similarity_previous"), drift.rank_correlation(start, first), rtol=1e-6)
    np.testing.assert_allclose(one.column("similarity_first"), drift.rank_correlation(start, first), rtol=1e-6)
    np.testing.assert_allclose(two.column("similarity_previous"), drift.rank_correlation(first, second), rtol=1e-6)
    np.testing.assert_allclose(two.column("similarity_first"), drift.rank_correlation(start, second), rtol=1e-6)
    np.testing.assert_allclose(two.column("center_shift"), drift.center_shift(first, second), atol=1e-3)
    np.testing.assert_allclose(two.column("mass"), second.sum(axis=(1, 2)), rtol=1e-6)
    assert np.isnan(recorder.start.column("similarity_previous")).all()


def test_an_unchanged_map_is_exactly_unchanged():
    recorder = Recorder()
    maps = np.random.default_rng(0).random((3, 7, 7)).astype(np.float32)
    recorder.add(0, maps, predictions(3))
    record = recorder.add(1, maps, predictions(3))
    np.testing.assert_allclose(record.column("similarity_previous"), 1, atol=1e-6)
    np.testing.assert_array_equal(record.column("center_shift"), 0)


def test_without_a_start_the_first_logged_epoch_is_the_first():
    recorder = Recorder()
    recorder.add(5, spot(0, 1), predictions())
    recorder.add(6, spot(2, 1), predictions())
    record = recorder.add(7, spot(0, 1), predictions())
    np.testing.assert_allclose(record.column("similarity_first"), 1, atol=1e-6)


def test_regions():
    recorder = Recorder()
    recorder.watch([(0, 0, 2, 1), (0, 0, 2, 1)], (1, 4))
    record = recorder.add(0, spot(0, 3), predictions())
    np.testing.assert_allclose(record.column("mass_inside"), [1.02 / 1.09, 0.03 / 1.06], rtol=1e-6)
    np.testing.assert_array_equal(record.column("pointing_game"), [1, 0])


def test_an_epoch_that_comes_again_replaces_what_follows():
    recorder = Recorder()
    for epoch in (0, 1, 2, 1):
        recorder.add(epoch, spot(epoch), predictions(1))
    assert recorder.history().epochs.tolist() == [0, 1]
    recorder.add(None, spot(0), predictions(1))
    assert recorder.history().epochs.tolist() == []


def test_maps_of_another_grid_are_not_compared():
    recorder = Recorder()
    recorder.add(0, np.eye(3)[None], predictions(1))
    record = recorder.add(1, np.eye(4)[None], predictions(1))
    assert np.isnan(record.column("similarity_previous")).all()
    assert [maps.shape for maps in recorder.history().maps] == [(1, 3, 3), (1, 4, 4)]


@pytest.mark.parametrize("strength", [1e-9, 1.0, 1e9])
def test_weak_and_strong_maps_keep_their_order(strength):
    recorder = Recorder()
    maps = np.random.default_rng(0).random((2, 4, 4)) * strength
    recorder.add(0, maps, predictions())
    kept = recorder.history().maps[0]
    np.testing.assert_allclose(kept, maps, rtol=1e-3)
    np.testing.assert_allclose(drift.rank_correlation(kept, maps), 1, atol=0.01)


def test_a_long_run_stays_small():
    recorder = Recorder()
    maps = np.random.default_rng(0).random((16, 7, 7))
    for epoch in range(1000):
        recorder.add(epoch, maps, predictions(16))
    history = recorder.history()
    stored = sum(record.maps.nbytes + record.numbers.nbytes + 500 for record in recorder.records)
    assert stored + history.maps.nbytes + sys.getsizeof(recorder.records) < 20e6
    assert history.maps.shape == (1000, 16, 7, 7)
    assert set(history.numbers) == set(COLUMNS)


def test_maps_are_compared_with_what_there_is():
    maps, other = np.arange(4.0).reshape(1, 2, 2), np.arange(6.0).reshape(1, 2, 3)
    assert compared(maps, None, None) == {}
    assert compared(maps, other, other) == {}
    assert set(compared(maps, maps, None)) == {"similarity_previous", "center_shift"}
    assert set(compared(maps, other, maps)) == {"similarity_first"}
    assert set(compared(maps, maps, maps)) == set(COMPARED)


def test_a_history_is_loaded_as_the_callback_knew_it(pictures, tmp_path):
    callback = GuidedGradCAMCallback(
        (pictures[:8], IDENTITIES[:8]),
        tmp_path,
        target=Similarity(),
        methods="gradcam",
        gallery=Gallery((pictures, IDENTITIES, CAMERAS), query=(pictures[:8], IDENTITIES[:8], CAMERAS[:8]), every=2),
        on_error="raise",
    )
    embedding_model().fit(pictures, IDENTITIES, epochs=3, batch_size=8, verbose=0, callbacks=[callback])
    expected, loaded = callback.history, History.load(tmp_path)
    np.testing.assert_array_equal(loaded.epochs, expected.epochs)
    np.testing.assert_array_equal(loaded.maps, expected.maps)
    np.testing.assert_array_equal(loaded.partner_maps, expected.partner_maps)
    np.testing.assert_array_equal(loaded.start.maps, expected.start.maps)
    np.testing.assert_array_equal(loaded.start.partner_maps, expected.start.partner_maps)
    np.testing.assert_array_equal(loaded.start.numbers, expected.start.numbers)
    assert set(loaded.start.totals) == set(expected.start.totals)
    for of in ("numbers", "totals"):
        assert set(getattr(loaded, of)) == set(getattr(expected, of))
        for name, values in getattr(expected, of).items():
            np.testing.assert_allclose(getattr(loaded, of)[name], values, rtol=1e-6, err_msg=name)
    assert repr(loaded) == repr(expected)


def test_means_are_those_of_the_probes_that_have_a_value():
    record = Recorder().add(0, np.stack([np.eye(2), np.zeros((2, 2))]), predictions())
    assert record.means() == {"score": 0.0, "focus": 0.25, "mass": 1.0}
    assert repr(record) == "EpochRecord(epoch 0, 2 probes)"


def test_notebooks_show_the_means_of_at_most_20_epochs():
    recorder = Recorder()
    for epoch in range(50):
        recorder.add(epoch, spot(epoch % 4, 1), predictions() | {"score": np.array([epoch, epoch + 1.0])})
    head, empty, titles, _, *rows = recorder.history()._repr_markdown_().splitlines()
    assert head == repr(recorder.history())
    assert empty == ""
    assert titles.split(" | ")[:2] == ["| epoch", "score"]
    assert "mass_inside" not in titles  # there are no regions
    assert len(rows) == 20
    assert rows[0].split(" | ")[:2] == ["| 0", "0.5"]
    assert rows[-1].split(" | ")[:2] == ["| 49", "49.5"]
