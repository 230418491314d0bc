"""The recorder: drift between logged epochs, resumed runs, memory."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from keras_gradcam.metrics import drift
from keras_gradcam.training.history import COLUMNS, COMPARED, Recorder, compared


def spot(*cells, strength=1.0):
    """One map of 1 x 4 per probe with a single cell on a slope, so that no map is constant."""
    maps = np.tile(np.array([0.01, 0.02, 0.03, 0.04]), (len(cells), 1, 1))
    for number, cell in enumerate(cells):
        maps[number, 0, cell] = strength
    return maps


def said(samples=2, **more):
    return {"score": np.zeros(samples), **more}


def test_drift_is_measured_from_the_epoch_before_and_from_the_start():
    recorder = Recorder()
    start, first, second = spot(0, 1), spot(1, 1), spot(1, 3)
    recorder.add(None, start, said())
    one = recorder.add(0, first, said())
    two = recorder.add(1, second, said())
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
    recorder.add(0, maps, said(3))
    record = recorder.add(1, maps, said(3))
    np.testing.assert_allclose(record.column("similarity_previous"), 1, atol=1e-6)
    np.testing.assert_array_equal(record.column("center_shift"), 0)


def test_without_a_start_the_first_logged_epoch_is_the_first():
    recorder = Recorder()
    recorder.add(5, spot(0, 1), said())
    recorder.add(6, spot(2, 1), said())
    record = recorder.add(7, spot(0, 1), said())
    np.testing.assert_allclose(record.column("similarity_first"), 1, atol=1e-6)


def test_regions():
    recorder = Recorder()
    recorder.watch([(0, 0, 2, 1), (0, 0, 2, 1)], (1, 4))
    record = recorder.add(0, spot(0, 3), said())
    np.testing.assert_allclose(record.column("mass_inside"), [1.02 / 1.09, 0.03 / 1.06], rtol=1e-6)
    np.testing.assert_array_equal(record.column("pointing_game"), [1, 0])


def test_an_epoch_that_comes_again_replaces_what_follows():
    recorder = Recorder()
    for epoch in (0, 1, 2, 1):
        recorder.add(epoch, spot(epoch), said(1))
    assert recorder.history().epochs.tolist() == [0, 1]
    recorder.add(None, spot(0), said(1))
    assert recorder.history().epochs.tolist() == []


def test_maps_of_another_grid_are_not_compared():
    recorder = Recorder()
    recorder.add(0, np.eye(3)[None], said(1))
    record = recorder.add(1, np.eye(4)[None], said(1))
    assert np.isnan(record.column("similarity_previous")).all()
    assert [maps.shape for maps in recorder.history().maps] == [(1, 3, 3), (1, 4, 4)]


@pytest.mark.parametrize("strength", [1e-9, 1.0, 1e9])
def test_weak_and_strong_maps_keep_their_order(strength):
    recorder = Recorder()
    maps = np.random.default_rng(0).random((2, 4, 4)) * strength
    recorder.add(0, maps, said())
    kept = recorder.history().maps[0]
    np.testing.assert_allclose(kept, maps, rtol=1e-3)
    np.testing.assert_allclose(drift.rank_correlation(kept, maps), 1, atol=0.01)


def test_a_long_run_stays_small():
    recorder = Recorder()
    maps = np.random.default_rng(0).random((16, 7, 7))
    for epoch in range(1000):
        recorder.add(epoch, maps, said(16))
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
