"""The nearest of a gallery: those of a sort, and nearly those by an approximate index."""

from __future__ import annotations

import numpy as np
import pytest

from keras_gradcam.errors import ArgumentError
from keras_gradcam.reid import NearestIndex, nearest


def sorted_nearest(queries, gallery, top, metric):
    """All similarities in 64 bits, sorted; equal ones in the gallery's order."""
    queries, gallery = queries.astype(np.float64), gallery.astype(np.float64)
    if metric == "cosine":
        lengths = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, gallery)]
        keys = (queries / lengths[0]) @ (gallery / lengths[1]).T
    else:
        keys = -np.linalg.norm(queries[:, None] - gallery[None], axis=2)
    order = np.argsort(-np.round(keys, 12), axis=1, kind="stable")[:, :top]
    return order, np.take_along_axis(keys, order, axis=1)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("index", ["exact", "faiss", "usearch"])
def test_the_nearest_are_found(rng, metric, index):
    if index != "exact":
        pytest.importorskip(index)
    queries, gallery = rng.normal(size=(20, 16)), rng.normal(size=(3000, 16)).astype(np.float32)
    indices, similarities = nearest(queries, gallery, 10, metric=metric, index=index)
    expected, keys = sorted_nearest(queries.astype(np.float32), gallery, 10, metric)
    hits = np.mean([np.isin(row, wanted).mean() for row, wanted in zip(indices, expected, strict=True)])
    assert hits == 1 if index == "exact" else hits > 0.97
    if index == "exact":
        np.testing.assert_array_equal(indices, expected)
    same = indices == expected
    np.testing.assert_allclose(similarities[same], keys[same], rtol=1e-5)


@pytest.mark.parametrize("index", ["exact", "faiss", "usearch"])
def test_equal_ones_come_in_the_order_of_the_gallery(index):
    if index != "exact":
        pytest.importorskip(index)
    gallery = np.repeat(np.eye(3, dtype=np.float32), 3, axis=0)[[0, 3, 6, 1, 4, 7, 2, 5, 8]]
    indices, similarities = nearest(np.eye(3)[:1], gallery, 4, index=index)
    assert indices[0, :3].tolist() == [0, 3, 6]
    np.testing.assert_allclose(similarities[0, :3], 1)


def test_fewer_entries_than_asked_for():
    assert nearest(np.eye(2), np.eye(2), 5)[0].shape == (2, 2)


def test_a_memory_map_is_not_copied(tmp_path, rng):
    gallery = np.lib.format.open_memmap(tmp_path / "g.npy", "w+", np.float32, (500, 8))
    gallery[:] = rng.normal(size=gallery.shape)
    indices, _ = nearest(gallery[7:8], np.load(tmp_path / "g.npy", mmap_mode="r"), 1)
    assert indices.tolist() == [[7]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 3)), np.ones((2, 4))), "length. Received: 4 and 3"),
        ((np.ones(3), np.ones((2, 3))), "`queries` must be embeddings"),
        ((np.ones((2, 3)), np.ones((0, 3))), "`gallery` must be embeddings"),
        ((np.ones((2, 3)), np.full((2, 3), np.nan)), "`gallery` must be finite"),
        ((np.array([["a"]]), np.ones((2, 3))), "`queries` must be embeddings"),
        ((np.ones((2, 3)), np.ones((2, 3)), 0), "`top` must be"),
    ],
)
def test_what_cannot_be_compared(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        nearest(*arguments)


@pytest.mark.parametrize("kind", ["faiss", "usearch"])
def test_an_index_is_asked_again_and_again(rng, kind):
    pytest.importorskip(kind)
    gallery = rng.normal(size=(500, 8))
    index = NearestIndex(gallery, kind=kind)
    for top in (1, 5):
        queries = rng.normal(size=(3, 8))
        for found, expected in zip(
            index.nearest(queries, top), nearest(queries, gallery, top, index=kind), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(ArgumentError, match=r"length\. Received: 8 and 7"):
        index.nearest(np.ones((1, 7)))
    with pytest.raises(ArgumentError, match="`kind` must be 'faiss' or 'usearch'"):
        NearestIndex(gallery, kind="exact")


def test_choices():
    with pytest.raises(ArgumentError, match="`index` must be 'exact' or 'faiss' or 'usearch'"):
        nearest(np.eye(2), np.eye(2), index="annoy")
    with pytest.raises(ArgumentError, match="`metric` must be"):
        nearest(np.eye(2), np.eye(2), metric="l1")
