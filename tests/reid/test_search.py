"""The search tile by tile beside a full sort in 64 bits."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles_reid import sorted_lists

from keras_gradcam.reid import search as module
from keras_gradcam.reid.embeddings import EmbeddedSet, LabelledPictures
from keras_gradcam.reid.search import search

METRICS = pytest.mark.parametrize("metric", ["cosine", "euclidean"])


def embedded(vectors, identities, cameras=None) -> EmbeddedSet:
    vectors = np.asarray(vectors, np.float32)
    identities = np.asarray(identities, np.int64)
    source = LabelledPictures("gallery", (vectors, identities))
    return EmbeddedSet(source, vectors, identities, None if cameras is None else np.asarray(cameras, np.int64))


def left_out(queries: EmbeddedSet, gallery: EmbeddedSet, is_same: bool) -> np.ndarray:
    """What does not count, bool (Q, G), from the definition of the protocol."""
    result = np.zeros((len(queries), len(gallery)), bool) | (gallery.identities == -1)
    if queries.cameras is not None and gallery.cameras is not None:
        result |= (queries.identities[:, None] == gallery.identities) & (queries.cameras[:, None] == gallery.cameras)
    if is_same:
        result |= np.eye(len(queries), dtype=bool)
    return result


def check(queries: EmbeddedSet, gallery: EmbeddedSet, metric: str, top: int, is_same: bool = False) -> None:
    """Compares lists, similarities and the ranks of all matches with those of a full sort."""
    found = search(queries, gallery, metric, top, is_same)
    expected = sorted_lists(queries.vectors, gallery.vectors, metric, left_out(queries, gallery, is_same))
    scale = max(np.abs(queries.vectors).max(), np.abs(gallery.vectors).max()) if metric == "euclidean" else 1
    for row, (order, scores) in enumerate(expected):
        size = min(top, len(order))
        np.testing.assert_array_equal(found.indices[row, :size], order[:size])
        assert (found.indices[row, size:] == -1).all()
        np.testing.assert_allclose(found.similarities[row, :size], scores[:size], rtol=1e-6, atol=1e-7 * scale)
        assert np.isnan(found.similarities[row, size:]).all()
        ranks = np.flatnonzero(gallery.identities[order] == queries.identities[row]) + 1
        np.testing.assert_array_equal(found.match_ranks[row], ranks)


def people(rng: np.random.Generator, count: int, identities: int, scale=1.0, offset=0.0, dimensions=64) -> EmbeddedSet:
    vectors = rng.standard_normal((count, dimensions)) * scale + offset
    return embedded(vectors, rng.integers(-1, identities, count), rng.integers(0, 4, count))


@METRICS
def test_ten_thousand_entries_are_ranked_as_by_a_full_sort(metric):
    rng = np.random.default_rng(0)
    check(people(rng, 60, 1000), people(rng, 10_000, 1000), metric, 50)


@METRICS
@pytest.mark.parametrize("offset", [0, 1])
def test_each_query_of_one_set_leaves_itself_out(monkeypatch, metric, offset):
    """With an offset all embeddings are alike in three digits, as those of an untrained network."""
    monkeypatch.setattr(module, "_TILE", 256)
    people_twice = people(np.random.default_rng(1), 700, 40, scale=1e-3 if offset else 1, offset=offset)
    check(people_twice, people_twice, metric, 20, is_same=True)


@METRICS
def test_two_identities_have_thousands_of_matches(metric):
    rng = np.random.default_rng(2)
    gallery = embedded(rng.standard_normal((5000, 32)), rng.integers(0, 2, 5000))
    check(embedded(rng.standard_normal((6, 32)), [0, 1] * 3), gallery, metric, 5000)


@METRICS
@pytest.mark.parametrize(("query", "gallery"), [(1e30, 1e30), (1e-30, 1e-30), (1e38, 1e-38), (1e-38, 1e38)])
def test_embeddings_of_any_size(metric, query, gallery):
    rng = np.random.default_rng(3)
    rows = rng.uniform(-1, 1, (500, 16))
    rows[250] = 0
    entries = embedded(rows * gallery, rng.integers(0, 9, 500))
    queries = embedded(rng.uniform(-1, 1, (8, 16)) * query, rng.integers(0, 9, 8))
    found = search(queries, entries, metric, 20, False)
    if metric == "cosine" or query <= gallery:
        check(queries, entries, metric, 20)
    else:  # beside such a query all of the gallery is equally far
        np.testing.assert_array_equal(found.indices, np.tile(np.arange(20), (8, 1)))


@METRICS
def test_one_entry_far_away_does_not_blur_the_others(metric):
    rng = np.random.default_rng(4)
    rows = rng.uniform(-1, 1, (900, 16))
    rows[333] *= 1e6
    check(embedded(rows[:10], range(10)), embedded(rows, np.arange(900) % 10), metric, 30)


@METRICS
def test_many_equal_entries_in_many_tiles_keep_the_order_of_the_gallery(monkeypatch, metric):
    monkeypatch.setattr(module, "_TILE", 500)
    rng = np.random.default_rng(5)
    vector = rng.standard_normal(32)
    rows = np.tile(vector, (3000, 1))
    rows[::7] = rng.standard_normal((429, 32))
    check(embedded(vector[None] + rng.standard_normal((3, 32)), [0, 1, 2]), embedded(rows, np.arange(3000) % 5),
          metric, 40)  # fmt: skip


@METRICS
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_small_gallery_is_ranked_as_by_a_full_sort(metric, data):
    """Few different values make many ties; they are exact in 64 bits, so that no rounding decides."""
    size, dimensions = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 4))
    numbers = st.integers(-2, 2)
    rows = np.array(data.draw(st.lists(numbers, min_size=size * dimensions, max_size=size * dimensions)))
    gallery = embedded(
        rows.reshape(size, dimensions),
        data.draw(st.lists(st.integers(-1, 3), min_size=size, max_size=size)),
        data.draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)),
    )
    query = data.draw(st.lists(numbers, min_size=dimensions, max_size=dimensions))
    queries = embedded([query], [data.draw(st.integers(-1, 3))], [data.draw(st.integers(0, 1))])
    check(queries, gallery, metric, data.draw(st.integers(1, 35)))


def test_a_near_match_of_another_identity_is_counted_by_64_bits():
    """Two entries that 32 bits cannot tell apart: the better one comes first, wherever it stands."""
    base = np.full(8, 0.5)
    better, worse = base.copy(), base.copy()
    worse[0] += 1e-7
    for entries, rank in (([better, worse], 1), ([worse, better], 2)):
        found = search(embedded([base], [4]), embedded(entries, [4, 5]), "euclidean", 2, False)
        assert found.match_ranks[0].tolist() == [rank]
        assert found.indices[0].tolist() == ([0, 1] if rank == 1 else [1, 0])


def test_memory_holds_no_matrix_of_all_similarities(monkeypatch):
    monkeypatch.setattr(module, "_TILE", 1024)
    rng = np.random.default_rng(6)
    gallery, queries = people(rng, 40_000, 5000, dimensions=16), people(rng, 500, 5000, dimensions=16)
    tracemalloc.start()
    try:
        search(queries, gallery, "cosine", 10, False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500 * 40_000 * 4 / 4
