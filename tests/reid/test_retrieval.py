"""Which queries and galleries are ranked and explained, and what is warned of."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from backends import numbers
from keras import layers as L  # noqa: N812
from models import randomised
from retrieval_sets import (
    ASKED,
    CAMERAS,
    GALLERY,
    IDENTITIES,
    KNOWN,
    NO_MATCH,
    PICTURES,
    ROWS,
    SEEN,
    SIZE,
    WANTED,
    at,
    dataset,
    ranked,
)

from keras_gradcam import Explainer, Output, SelfSimilarity
from keras_gradcam.reid import Gallery, rank
from keras_gradcam.reid.retrieval import check_gallery, rank_gallery


def test_a_gallery_that_is_the_query_leaves_each_query_out_of_its_own_list():
    both = at(0, 10, 40, 60), [1, 1, 2, 2]
    result = ranked(both, both)
    np.testing.assert_array_equal(result.indices, [[1, 2, 3, -1], [0, 2, 3, -1], [3, 1, 0, -1], [2, 1, 0, -1]])
    np.testing.assert_allclose(result.average_precision, 1)
    copied = ranked(both, (both[0].copy(), both[1]))
    np.testing.assert_array_equal(copied.indices[:, 0], [0, 1, 2, 3])


def test_a_gallery_that_is_the_query_obeys_the_cameras_too():
    both = at(0, 10, 15, 60), [1, 1, 1, 2], [0, 0, 1, 0]
    with pytest.warns(UserWarning, match="1 of 4"):
        result = ranked(both, both)
    np.testing.assert_array_equal(result.indices, [[2, 3, -1, -1], [2, 3, -1, -1], [1, 0, 3, -1], [2, 1, 0, -1]])


def test_a_dataset_that_is_the_query_leaves_each_query_out_of_its_own_list():
    both = dataset(at(0, 10, 40, 60), [1, 1, 2, 2])
    np.testing.assert_array_equal(ranked(both, both).indices[:, 0], [1, 0, 3, 2])


def test_one_output_of_several_is_ranked():
    inputs = keras.Input((*SIZE, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(6, 5, strides=4, activation="relu", name="conv")(inputs))
    two = randomised(keras.Model(inputs, {"e": L.Dense(5, name="e")(x), "c": L.Dense(3, name="c")(x)}))
    query, gallery = (ASKED, WANTED), (PICTURES, IDENTITIES)
    result = ranked(query, gallery, Explainer(two, target=Output("e", SelfSimilarity())), explain=1)
    rows = [numbers(two(given)["e"]) for given in (ASKED, PICTURES)]
    np.testing.assert_array_equal(result.indices, ranked((rows[0], WANTED), (rows[1], IDENTITIES)).indices)
    np.testing.assert_allclose(result.explained[0].maps.sum((1, 2)), result.similarities[0], atol=1e-5)
    with pytest.raises(ValueError, match=r"Output\('e'"):
        ranked(query, gallery, two)


@pytest.mark.filterwarnings(NO_MATCH)
def test_pictures_are_left_as_they_are(explainer):
    given = [array.copy() for array in (ASKED, WANTED, SEEN)]
    for array in given:
        array.flags.writeable = False
    ranked(tuple(given), tuple(given), explainer, explain=1)


def test_how_many_or_which_queries_are_explained(explainer):
    query, gallery = (ASKED, WANTED), (PICTURES, IDENTITIES)
    for explain, expected in (
        (0, []),
        (2, [0, 1]),
        (99, [0, 1, 2, 3, 4]),
        ([4], [4]),
        (np.array([2, 0]), [2, 0]),
        ((), []),
    ):
        found = ranked(query, gallery, explainer, top=1, explain=explain).explained
        assert [one.index for one in found] == expected


@pytest.mark.parametrize(
    ("identities", "shown", "expected"),
    [
        ([7, 7, 7, 3, 3, 9], 3, [0, 3, 5]),
        ([7, 7, 7, 3, 3, 9], 2, [0, 3]),
        ([7, 7, 7, 3, 3, 9], 5, [0, 1, 2, 3, 5]),
        ([7, 7, 7, 3, 3, 9], 99, [0, 1, 2, 3, 4, 5]),
        ([4, 4, 4], 2, [0, 1]),
        ([5, -1, 2, 5], 3, [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.filterwarnings(NO_MATCH)
def test_a_gallery_is_ranked_as_it_is_and_queries_of_different_people_are_shown(
    explainer, identities, shown, expected, batch
):
    columns = PICTURES[: len(identities)], np.array(identities)
    query = columns if batch is None else dataset(*columns).batch(batch)
    result = rank_gallery(Gallery((PICTURES, IDENTITIES), query=query, top=2, shown=shown), explainer)
    assert [one.index for one in result.explained] == expected
    assert [one.identity for one in result.explained] == [identities[number] for number in expected]
    same = ranked(query, (PICTURES, IDENTITIES), explainer, top=2)
    np.testing.assert_array_equal(result.indices, same.indices)
    np.testing.assert_array_equal(result.cmc, same.cmc)
    assert all(len(one.maps) == 2 for one in result.explained)


def test_a_gallery_that_is_ranked_again_need_not_warn_again(explainer):
    gallery = Gallery((PICTURES, IDENTITIES), query=(ASKED[:3], [0, 77, 88]), shown=1)
    with pytest.warns(UserWarning, match="2 of 3 queries have no right match in the gallery") as told:
        first = rank_gallery(gallery, explainer)
    assert len(told) == 1
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = rank_gallery(gallery, explainer, warn=False)
    np.testing.assert_array_equal(again.average_precision, first.average_precision)


def test_a_ranking_warns_once_and_points_to_its_caller():
    with pytest.warns(UserWarning, match="no right match") as told:
        rank((at(0, 90, 45), [7, 5, 6], [0, 0, 0]), GALLERY, progress=False)
    assert [(str(one.message), one.filename) for one in told] == [
        ("2 of 3 queries have no right match in the gallery; CMC and mAP leave them out.", __file__)
    ]


@pytest.mark.parametrize(
    ("query", "gallery", "options", "message"),
    [
        ((ROWS, KNOWN), (ROWS[:, :2], KNOWN), {}, "embeddings of one length. Received: 3 and 2"),
        ((ROWS, KNOWN, KNOWN), (ROWS, KNOWN), {}, "both come with cameras or both without"),
        ((ROWS, KNOWN), (ROWS, KNOWN, KNOWN), {}, "both come with cameras or both without"),
        ((ROWS, KNOWN), (ROWS, KNOWN), {"metric": "manhattan"}, "`metric` must be"),
        *(((ROWS, KNOWN), (ROWS, KNOWN), {"top": top}, "`top` must be") for top in (0, -1, 1.5, True, None)),
        ((ROWS, KNOWN), (ROWS, KNOWN), {"explain": 1}, "`model` must be given to explain"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(query, gallery, options, message):
    with pytest.raises(ValueError, match=message):
        ranked(query, gallery, **options)


@pytest.mark.parametrize("explain", [[5], [-1], [0, 99], ["a"]])
def test_queries_that_are_not_there_are_not_explained(explainer, explain):
    with pytest.raises(ValueError, match="`explain` must name queries 0 to 4"):
        ranked((ASKED, WANTED), (PICTURES, IDENTITIES), explainer, explain=explain)


@pytest.mark.parametrize("name", ["every", "top", "shown"])
@pytest.mark.parametrize("number", [0, -3, 1.0, True, None])
def test_a_gallery_counts_in_whole_numbers(name, number):
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number >= 1"):
        Gallery((ROWS, KNOWN), **{name: number})


@pytest.mark.parametrize("explain", [-1, 1.5, None, [0.0]])
def test_numbers_of_queries_that_are_none_are_refused(explainer, explain):
    with pytest.raises(ValueError, match="`explain` must"):
        ranked((ASKED, WANTED), (PICTURES, IDENTITIES), explainer, explain=explain)


def test_a_gallery_of_dicts_beside_queries_as_arrays(explainer):
    samples = [{"x": one, "id": who} for one, who in zip(PICTURES, IDENTITIES, strict=True)]
    gallery = Gallery(samples, query=(ASKED, WANTED), top=2, shown=2, image="x", label="id")
    check_gallery(gallery, explainer)
    result = rank_gallery(gallery, explainer)
    expected = rank_gallery(Gallery((PICTURES, IDENTITIES), query=(ASKED, WANTED), top=2, shown=2), explainer)
    np.testing.assert_array_equal(result.indices, expected.indices)
    assert [found.index for found in result.explained] == [found.index for found in expected.explained] == [0, 1]


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (zip(PICTURES, IDENTITIES, strict=True), "`gallery` must be a data set that can be read again"),
        ((ROWS, KNOWN), "`gallery` must hold pictures, to be embedded at every ranking. Received: embeddings"),
        ((PICTURES[:0], IDENTITIES[:0]), "`gallery` must hold at least one picture"),
        ((PICTURES, IDENTITIES, CAMERAS), "both come with cameras or both without"),
        ((PICTURES[:, :8], IDENTITIES), "shape that the model takes"),
    ],
    ids=["iterator", "embeddings", "none", "cameras", "shape"],
)
def test_a_gallery_that_cannot_be_ranked_is_refused_before_training(explainer, pictures, message):
    with pytest.raises(ValueError, match=message):
        check_gallery(Gallery(pictures, query=(ASKED, WANTED)), explainer)


def test_queries_in_their_gallery_are_warned_of(explainer):
    gallery = Gallery((np.concatenate([PICTURES, ASKED[:2]]), [*IDENTITIES, 0, 1]), query=(ASKED, WANTED))
    with pytest.warns(UserWarning, match="2 pictures of the gallery are queries too") as told:
        check_gallery(gallery, explainer)
    assert len(told) == 1
