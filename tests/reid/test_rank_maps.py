"""Ranked lists hold the pictures of their ranking, with maps that sum to the similarity or are Grad-CAM of it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812
from models import images, randomised
from retrieval_sets import (
    ASKED,
    CAMERAS,
    IDENTITIES,
    NO_MATCH,
    PICTURES,
    SEEN,
    SIZE,
    WANTED,
    dataset,
    net,
    ranked,
    rectified,
)

from keras_gradcam import Distance, Explainer, Similarity
from keras_gradcam.reid import similarity_maps


def test_lists_hold_the_pictures_of_the_ranking(explainer):
    result = ranked((ASKED, WANTED, SEEN), (PICTURES, IDENTITIES, CAMERAS), explainer, top=6, explain=[3, 0])
    assert [one.index for one in result.explained] == [3, 0]
    for one in result.explained:
        indices = result.indices[one.index]
        np.testing.assert_array_equal(one.query, ASKED[one.index])
        assert one.identity == WANTED[one.index]
        np.testing.assert_array_equal(one.pictures, PICTURES[indices])
        np.testing.assert_array_equal(one.identities, IDENTITIES[indices])
        np.testing.assert_array_equal(one.correct, IDENTITIES[indices] == WANTED[one.index])
        np.testing.assert_array_equal(one.similarities, result.similarities[one.index])
    assert repr(result.explained[1]) == f"RankList(query 0, identity 0, {result.correct[0].sum()} of 6)"


def test_exact_maps_sum_to_the_similarity_everywhere_in_the_list(explainer):
    for one in ranked((ASKED, WANTED), (PICTURES, IDENTITIES), explainer, top=13, explain=5).explained:
        assert one.form == "exact"
        assert one.maps.shape == (13, 4, 2)
        np.testing.assert_allclose(one.maps.sum((1, 2)), one.similarities, atol=1e-5)
        np.testing.assert_allclose(one.query_map.sum(), one.similarities[0], atol=1e-5)
        pairs = similarity_maps(explainer, np.repeat(one.query[None], 13, axis=0), one.pictures)
        np.testing.assert_allclose(one.maps, pairs.map_b, atol=1e-6)
        np.testing.assert_allclose(one.query_map, pairs.map_a[0], atol=1e-6)
        assert one.maps.dtype == one.query_map.dtype == np.float32


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_other_maps_are_grad_cam_of_the_score(model, metric):
    """Of a head that is not linear, and of the distance."""
    explained = Explainer(net(rectified) if metric == "cosine" else model, methods="gradcam")
    score = Similarity if metric == "cosine" else Distance
    result = ranked((ASKED, WANTED), (PICTURES, IDENTITIES), explained, metric=metric, top=4, explain=2)
    for one in result.explained:
        assert one.form == "gradient"
        of_list, of_query = (
            explained(one.pictures, score(one.query)),
            explained(one.query[None], score(one.pictures[0])),
        )
        np.testing.assert_allclose(one.maps, of_list.gradcam, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(one.query_map, of_query.gradcam[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(one.similarities, of_list.scores, rtol=1e-4)
        assert one.maps.max() > 0


@pytest.mark.parametrize("batch", [None, 3, 100])
def test_lists_from_datasets_hold_the_same(explainer, batch):
    columns = (ASKED, WANTED), (PICTURES, IDENTITIES)
    expected = ranked(*columns, explainer, top=3, explain=[4, 1]).explained
    sets = [dataset(*column) for column in columns]
    sets = sets if batch is None else [one.batch(batch) for one in sets]
    result = ranked(*sets, explainer, top=3, explain=[4, 1]).explained
    for one, other in zip(result, expected, strict=True):
        np.testing.assert_array_equal(one.query, other.query)
        np.testing.assert_array_equal(one.pictures, other.pictures)
        np.testing.assert_allclose(one.maps, other.maps, atol=1e-6)


@pytest.mark.filterwarnings(NO_MATCH)
def test_a_query_with_nothing_left_to_show_has_no_list(explainer):
    """All gallery pictures are of the first query's identity and camera."""
    query, gallery = (ASKED[:2], [1, 2], [0, 1]), (PICTURES[:3], [1, 1, 1], [0, 0, 0])
    result = ranked(query, gallery, explainer, explain=2)
    assert [one.index for one in result.explained] == [1]
    np.testing.assert_array_equal(result.indices[0], -1)


def test_whole_numbers_are_explained_as_they_are(explainer):
    pictures = np.random.default_rng(0).integers(0, 256, (6, *SIZE, 3)).astype("uint8")
    (one,) = ranked((pictures[:1], [1]), (pictures[1:], [1] * 5), explainer, explain=1).explained
    assert one.pictures.dtype == np.uint8
    np.testing.assert_allclose(one.maps.sum((1, 2)), one.similarities, atol=1e-5)


def test_a_gallery_of_other_sizes_is_explained():
    inputs = keras.Input((None, None, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(6, 4, strides=4, activation="relu", name="conv")(inputs))
    free = randomised(keras.Model(inputs, L.Dense(5)(x)))
    gallery = images(4, (24, 12), seed=3), [0, 1, 2, 3]
    (one,) = ranked((ASKED[:1], [0]), gallery, free, explain=1).explained
    assert (one.query_map.shape, one.maps.shape) == ((4, 2), (4, 6, 3))
    np.testing.assert_allclose(one.maps.sum((1, 2)), one.similarities, atol=1e-5)


@pytest.mark.filterwarnings(NO_MATCH)
def test_where_no_query_has_anything_to_show_nothing_is_explained(explainer):
    query, gallery = (ASKED[:1], [1], [0]), (PICTURES[:3], [1, 1, 1], [0, 0, 0])
    assert ranked(query, gallery, explainer, explain=1).explained == ()


def test_an_explainer_without_grad_cam_explains_no_distance(model):
    with pytest.raises(ValueError, match="computes 'gradcam'"):
        ranked(
            (ASKED, WANTED),
            (PICTURES, IDENTITIES),
            Explainer(model, methods="guided_backprop"),
            metric="euclidean",
            explain=1,
        )
