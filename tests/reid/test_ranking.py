"""Rankings by hand and by the definition of the protocol."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles_reid import cmc, cosine, distance, market1501
from retrieval_sets import (
    GALLERY,
    NO_MATCH,
    QUERY,
    at,
    people,
    ranked,
)

from keras_gradcam.reid import search


def test_a_ranking_with_junk_by_hand():
    """Query 0: entry 0 is of its identity and camera, entry 3 is junk; hits at 2 and 4. Query 1: entry 1 is junk."""
    result = ranked(QUERY, GALLERY, top=7)
    np.testing.assert_array_equal(result.indices, [[1, 2, 4, 5, 6, -1, -1], [6, 5, 4, 2, 0, -1, -1]])
    np.testing.assert_array_equal(
        result.correct, [[False, True, False, True, False, False, False], [True] + [False] * 6]
    )
    np.testing.assert_allclose(result.similarities[0, :5], np.cos(np.radians([20, 30, 50, 60, 70])), rtol=1e-5)
    assert np.isnan(result.similarities[:, 5:]).all()
    np.testing.assert_allclose(result.average_precision, [(1 / 2 + 2 / 4) / 2, 1.0])
    assert result.mean_ap == pytest.approx(0.75)
    np.testing.assert_allclose(result.cmc, [0.5, 1, 1, 1, 1, 1, 1])
    assert repr(result) == "Ranking(2 queries, rank-1 0.500, mAP 0.750)"


def test_without_cameras_only_junk_is_left_out():
    """Query 0: hits at 1, 3 and 5; query 1: hits at 1 and 5."""
    result = ranked(QUERY[:2], GALLERY[:2], top=7)
    np.testing.assert_array_equal(result.indices[:, :6], [[0, 1, 2, 4, 5, 6], [6, 5, 4, 2, 1, 0]])
    np.testing.assert_allclose(result.average_precision, [(1 / 1 + 2 / 3 + 3 / 5) / 3, (1 / 1 + 2 / 5) / 2], rtol=1e-12)
    np.testing.assert_allclose(result.cmc, np.ones(7))


def test_the_first_of_a_list_and_all_of_it_give_the_same_numbers():
    """``top`` is what is returned, not what is counted."""
    short, long = ranked(QUERY, GALLERY, top=1), ranked(QUERY, GALLERY, top=100)
    assert short.indices.shape == (2, 1)
    assert long.indices.shape == (2, 7)
    np.testing.assert_array_equal(short.indices, long.indices[:, :1])
    np.testing.assert_array_equal(short.cmc, long.cmc)
    np.testing.assert_array_equal(short.average_precision, long.average_precision)


def test_equal_entries_keep_the_order_of_the_gallery():
    gallery = at(30, 10, 30, 10, 30), [1, 2, 2, 1, 1]
    result = ranked((at(0), [1]), gallery, top=5)
    np.testing.assert_array_equal(result.indices, [[1, 3, 0, 2, 4]])
    np.testing.assert_allclose(result.average_precision, [(1 / 2 + 2 / 3 + 3 / 5) / 3])


def test_queries_without_a_right_match_are_left_out_with_a_warning():
    query = at(0, 90, 45), [7, 5, 8], [0, 0, 0]
    with pytest.warns(UserWarning, match="1 of 3 queries have no right match"):
        result = ranked(query, GALLERY)
    np.testing.assert_array_equal(np.isnan(result.average_precision), [False, True, False])
    alone = ranked((at(0, 45), [7, 8], [0, 0]), GALLERY)
    np.testing.assert_allclose(result.cmc, alone.cmc)
    assert result.mean_ap == pytest.approx(alone.mean_ap)
    assert not result.correct[1].any()
    assert (result.indices[1, :6] >= 0).all(), "its list is there all the same"


def test_where_no_query_has_a_match_there_is_no_number():
    with pytest.warns(UserWarning, match="2 of 2 queries"):
        result = ranked((at(0, 90), [1, 2]), (at(0, 90), [3, 4]))
    assert np.isnan(result.mean_ap)
    assert np.isnan(result.cmc).all()
    assert np.isnan(result.average_precision).all()


def test_a_match_in_the_same_camera_alone_is_no_match():
    with pytest.warns(UserWarning, match="1 of 1 queries"):
        result = ranked((at(0), [1], [3]), (at(0, 5, 10), [1, 1, 2], [3, 3, 3]))
    np.testing.assert_array_equal(result.indices, [[2, -1, -1]])


def test_queries_of_identity_minus_one_match_nothing():
    with pytest.warns(UserWarning, match="1 of 1 queries"):
        result = ranked((at(0), [-1], [0]), (at(0, 5), [-1, 2], [1, 1]))
    np.testing.assert_array_equal(result.indices, [[1, -1]])


def test_the_angle_and_the_distance_disagree_by_hand():
    query, gallery = (np.array([[1.0, 0.0]]), [0]), (np.array([[10.0, 0.0], [0.9, 0.3], [-1.0, 0.0]]), [0, 0, 0])
    by_angle, by_distance = ranked(query, gallery), ranked(query, gallery, metric="euclidean")
    np.testing.assert_array_equal(by_angle.indices, [[0, 1, 2]])
    np.testing.assert_allclose(by_angle.similarities, [[1, 0.9 / np.sqrt(0.9), -1]], rtol=1e-6)
    np.testing.assert_array_equal(by_distance.indices, [[1, 2, 0]])
    np.testing.assert_allclose(by_distance.similarities, [[-np.sqrt(0.1), -2, -9]], rtol=1e-6)


def test_embeddings_of_zero_are_similar_to_nothing():
    result = ranked((np.zeros((1, 2)), [0]), (at(0, 50), [0, 0]))
    np.testing.assert_array_equal(result.similarities, [[0, 0]])
    np.testing.assert_array_equal(result.indices, [[0, 1]])


@pytest.mark.filterwarnings(NO_MATCH)
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 6),
    size=st.integers(1, 25),
    with_cameras=st.booleans(),
    metric=st.sampled_from(["cosine", "euclidean"]),
)
def test_any_ranking_equals_the_protocol_from_its_definition(seed, queries, size, with_cameras, metric):
    query, gallery = people(seed, queries), people(seed + 1, size)
    if not with_cameras:
        query, gallery = (*query[:2], None), (*gallery[:2], None)
    score = cosine if metric == "cosine" else lambda one, other: -distance(one, other)
    expected = market1501(query, gallery, score)
    result = ranked(query[: 2 + with_cameras], gallery[: 2 + with_cameras], metric=metric, top=size)
    for number, one in enumerate(expected):
        length = len(one.indices)
        np.testing.assert_array_equal(result.indices[number, :length], one.indices)
        np.testing.assert_array_equal(result.indices[number, length:], -1)
        np.testing.assert_array_equal(result.correct[number, :length], one.right)
        np.testing.assert_allclose(result.similarities[number, :length], one.scores, rtol=1e-4, atol=1e-5)
        precision = one.average_precision()
        np.testing.assert_allclose(result.average_precision[number], np.nan if precision is None else precision)
    counted = [one.average_precision() for one in expected if any(one.right)]
    if counted:
        np.testing.assert_allclose(result.cmc, cmc(expected, size))
        assert result.mean_ap == pytest.approx(sum(counted) / len(counted))
        assert (np.diff(result.cmc) >= 0).all()
        assert result.cmc[-1] == 1
    else:
        assert np.isnan(result.mean_ap)
        assert np.isnan(result.cmc).all()


@pytest.mark.filterwarnings(NO_MATCH)
@pytest.mark.parametrize("with_cameras", [True, False])
def test_a_query_among_its_gallery_equals_the_protocol_from_its_definition(with_cameras):
    both = people(3, 40)[: 2 + with_cameras]
    padded = both if with_cameras else (*both, None)
    expected = market1501(padded, padded, same=True)
    result = ranked(both, both, top=40)
    for number, one in enumerate(expected):
        np.testing.assert_array_equal(result.indices[number][: len(one.indices)], one.indices)
    np.testing.assert_allclose(result.cmc, cmc(expected, 40))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 179), min_size=2, max_size=30, unique=True), st.data())
def test_average_precision_equals_that_of_scikit_learn(degrees, data):
    metrics = pytest.importorskip("sklearn.metrics")
    right = data.draw(st.lists(st.booleans(), min_size=len(degrees), max_size=len(degrees)))
    assume(any(right))
    result = ranked((at(0), [1]), (at(*degrees), np.array(right, int)), top=len(degrees))
    scores = np.empty(len(degrees))
    scores[result.indices[0]] = result.similarities[0]
    assert len(set(scores.tolist())) == len(degrees), "scikit-learn counts equal scores together"
    assert result.average_precision[0] == pytest.approx(metrics.average_precision_score(right, scores))


@pytest.mark.filterwarnings(NO_MATCH)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("rows", [1, 7, 60])
def test_the_tiles_do_not_matter(monkeypatch, metric, rows):
    query, gallery = people(0, 23), people(1, 61)
    expected = ranked(query, gallery, metric=metric, top=61)
    monkeypatch.setattr(search, "_TILE", rows)
    monkeypatch.setattr(search, "_QUERIES", 5)
    result = ranked(query, gallery, metric=metric, top=61)
    np.testing.assert_array_equal(result.indices, expected.indices)
    np.testing.assert_allclose(result.similarities, expected.similarities, atol=1e-5)
    np.testing.assert_array_equal(result.cmc, expected.cmc)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_any_number_of_equal_entries_keeps_the_order_of_the_gallery(metric):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        vector, queries = rng.normal(size=33).astype("float32"), rng.normal(size=(3, 33)).astype("float32")
        for size in range(1, 140, 3):
            gallery = np.tile(vector, (size, 1)), np.zeros(size, int)
            result = ranked((queries, [0] * 3), gallery, metric=metric, top=size)
            np.testing.assert_array_equal(result.indices, np.tile(np.arange(size), (3, 1)))


def test_equal_embeddings_are_at_distance_zero():
    rows = 30 * np.random.default_rng(0).normal(size=(30, 256)).astype("float32")
    result = ranked((rows, np.arange(30)), (rows.copy(), np.arange(30)), metric="euclidean", top=1)
    np.testing.assert_allclose(result.similarities, 0, atol=1e-3)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_embeddings_that_are_nearly_the_same_are_ranked_right(metric):
    rng = np.random.default_rng(0)
    rows = (5 + 0.02 * rng.normal(size=(60, 128))).astype("float32")
    query, gallery = (rows[:10], np.zeros(10, int)), (rows[10:], np.zeros(50, int))
    score = cosine if metric == "cosine" else lambda one, other: -distance(one, other)
    expected = [one.indices for one in market1501((*query, None), (*gallery, None), score)]
    np.testing.assert_array_equal(ranked(query, gallery, metric=metric, top=50).indices, expected)
