"""Rankings by hand and by the protocol's definition; the same from arrays, pictures and datasets; and explained."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import layers as L  # noqa: N812
from models import images, randomised
from oracles import assert_close
from oracles_reid import cmc, cosine, distance, market1501

from keras_gradcam import Distance, Explainer, Output, SelfSimilarity, Similarity
from keras_gradcam.reid import Gallery, Ranking, rank, ranking, similarity_maps
from keras_gradcam.reid.retrieval import rank_gallery

NO_MATCH = "ignore:.*no right match in the gallery"


def ranked(query, gallery, model=None, **options) -> Ranking:
    return rank(query, gallery, model, progress=False, **options)


def at(*degrees):
    """Vectors of length one at angles in the plane: the nearer the angles, the higher the cosine."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1).astype("float32")


# ------------------------------------------------------------------------------------------------------------- by hand

GALLERY = at(10, 20, 30, 40, 50, 60, 70), [7, 8, 7, -1, 9, 7, 8], [0, 0, 1, 1, 1, 2, 1]
QUERY = at(0, 90), [7, 8], [0, 0]


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
    both = tf.data.Dataset.from_tensor_slices((at(0, 10, 40, 60), [1, 1, 2, 2]))
    np.testing.assert_array_equal(ranked(both, both).indices[:, 0], [1, 0, 3, 2])


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


# -------------------------------------------------------------------------------------------- against the definition


def people(seed, count, identities=4, cameras=3, dimensions=6, junk=0.1):
    """Embeddings in which identities can be told apart more or less."""
    rng = np.random.default_rng(seed)
    who = rng.integers(0, identities, count)
    vectors = rng.normal(size=(identities, dimensions))[who] + rng.normal(size=(count, dimensions))
    known = np.where(rng.random(count) < junk, -1, who)
    return vectors.astype("float32"), known, rng.integers(0, cameras, count)


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
        length = len(one.places)
        np.testing.assert_array_equal(result.indices[number, :length], one.places)
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
        np.testing.assert_array_equal(result.indices[number][: len(one.places)], one.places)
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
@pytest.mark.parametrize("portion", [1, 70, 300])
def test_portions_do_not_matter(monkeypatch, metric, portion):
    query, gallery = people(0, 23), people(1, 61)
    expected = ranked(query, gallery, metric=metric, top=61)
    monkeypatch.setattr(ranking, "_PORTION", portion)
    result = ranked(query, gallery, metric=metric, top=61)
    np.testing.assert_array_equal(result.indices, expected.indices)
    np.testing.assert_allclose(result.similarities, expected.similarities, atol=1e-5)
    np.testing.assert_array_equal(result.cmc, expected.cmc)


# ------------------------------------------------------------------------------------------ pictures, arrays, datasets

SIZE = (16, 8)


def net(head=None, seed: int = 0):
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(6, 5, strides=4, padding="same", activation="relu", name="conv")(inputs)
    x = L.GlobalAveragePooling2D()(x)
    return randomised(keras.Model(inputs, head(x) if head else L.Dense(5, name="dense")(x)), seed)


def rectified(x):
    return L.Dense(5, activation="relu")(x)


@pytest.fixture(scope="module")
def model():
    return net()


@pytest.fixture(scope="module")
def explainer(model):
    return Explainer(model, methods="gradcam", batch_size=4)


PICTURES, IDENTITIES, CAMERAS = images(13, SIZE, seed=1), np.arange(13) % 4, np.arange(13) % 3
ASKED, WANTED, SEEN = images(5, SIZE, seed=2), np.arange(5) % 4, np.array([0, 1, 2, 0, 1])


def dataset(*columns):
    return tf.data.Dataset.from_tensor_slices(columns)


def forms(pictures, identities, cameras, embed):
    """The same entries, given in every way."""
    columns = (pictures, identities, cameras)
    return {
        "pictures": columns,
        "a list of these": list(columns),
        "lists": (list(pictures), identities.tolist(), cameras.tolist()),
        "tensors": tuple(map(tf.constant, columns)),
        "float64, int8": (pictures.astype("float64"), identities.astype("int8"), cameras.astype("uint16")),
        "embeddings": (embed(pictures), identities, cameras),
        "lists of embeddings": (embed(pictures).tolist(), identities, cameras),
        "a dataset": dataset(*columns),
        "a batched dataset": dataset(*columns).batch(3),
        "a dataset of one batch": dataset(*columns).batch(100).prefetch(1),
        "a dataset of embeddings": dataset(embed(pictures), identities, cameras),
        "a batched dataset of embeddings": dataset(embed(pictures), identities, cameras).batch(2),
    }


FORMS = list(forms(PICTURES, IDENTITIES, CAMERAS, lambda pictures: pictures[:, 0, 0]))


@pytest.mark.parametrize("form", FORMS)
def test_entries_given_in_any_way_are_ranked_the_same(explainer, form):
    expected = ranked((ASKED, WANTED, SEEN), (PICTURES, IDENTITIES, CAMERAS), explainer)
    query, gallery = (
        forms(*given, explainer.embed)[form] for given in ((ASKED, WANTED, SEEN), (PICTURES, IDENTITIES, CAMERAS))
    )
    result = ranked(query, gallery, explainer)
    np.testing.assert_array_equal(result.indices, expected.indices)
    np.testing.assert_allclose(result.similarities, expected.similarities, rtol=1e-5)
    np.testing.assert_array_equal(result.cmc, expected.cmc)
    np.testing.assert_array_equal(result.average_precision, expected.average_precision)


def test_pictures_are_embedded_by_the_model(model, explainer):
    """By the model as it is called, with the current weights."""
    query, gallery = model(ASKED).numpy(), model(PICTURES).numpy()
    expected = market1501((query, WANTED, SEEN), (gallery, IDENTITIES, CAMERAS))
    result = ranked((ASKED, WANTED, SEEN), (PICTURES, IDENTITIES, CAMERAS), model, top=13)
    for number, one in enumerate(expected):
        np.testing.assert_array_equal(result.indices[number, : len(one.places)], one.places)
        np.testing.assert_allclose(result.similarities[number, : len(one.places)], one.scores, rtol=1e-4)
    changed = net()
    explainer = Explainer(changed)
    before = ranked((ASKED, WANTED), (PICTURES, IDENTITIES), explainer)
    randomised(changed, seed=7)
    after = ranked((ASKED, WANTED), (PICTURES, IDENTITIES), explainer)
    assert_close(after.similarities, ranked((ASKED, WANTED), (PICTURES, IDENTITIES), changed).similarities)
    assert np.abs(after.similarities - before.similarities).max() > 1e-3


def test_embeddings_and_pictures_are_mixed(explainer):
    mixed = ranked((explainer.embed(ASKED), WANTED), dataset(PICTURES, IDENTITIES), explainer)
    pure = ranked((ASKED, WANTED), (PICTURES, IDENTITIES), explainer)
    np.testing.assert_array_equal(mixed.indices, pure.indices)


def test_one_output_of_several_is_ranked():
    inputs = keras.Input((*SIZE, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(6, 5, strides=4, activation="relu", name="conv")(inputs))
    two = randomised(keras.Model(inputs, {"e": L.Dense(5, name="e")(x), "c": L.Dense(3, name="c")(x)}))
    query, gallery = (ASKED, WANTED), (PICTURES, IDENTITIES)
    result = ranked(query, gallery, Explainer(two, target=Output("e", SelfSimilarity())), explain=1)
    rows = [two(given)["e"].numpy() for given in (ASKED, PICTURES)]
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


def test_progress_is_shown_or_not(model, capsys):
    for shown in (False, True):
        rank((ASKED, WANTED), (PICTURES, IDENTITIES), Explainer(model, batch_size=4), progress=shown)
        assert ("13/13" in capsys.readouterr().out) == shown


# ----------------------------------------------------------------------------------------------------------- explained


def test_lists_hold_the_pictures_of_the_ranking(explainer):
    result = ranked((ASKED, WANTED, SEEN), (PICTURES, IDENTITIES, CAMERAS), explainer, top=6, explain=[3, 0])
    assert [one.index for one in result.explained] == [3, 0]
    for one in result.explained:
        places = result.indices[one.index]
        np.testing.assert_array_equal(one.query, ASKED[one.index])
        assert one.identity == WANTED[one.index]
        np.testing.assert_array_equal(one.pictures, PICTURES[places])
        np.testing.assert_array_equal(one.identities, IDENTITIES[places])
        np.testing.assert_array_equal(one.correct, IDENTITIES[places] == WANTED[one.index])
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


def shuffled(pictures, identities):
    return dataset(pictures, identities).shuffle(100, seed=1, reshuffle_each_iteration=True)


@pytest.mark.parametrize("which", ["query", "gallery"])
def test_a_shuffled_dataset_is_not_explained(explainer, which):
    query = shuffled(ASKED, WANTED) if which == "query" else (ASKED, WANTED)
    gallery = shuffled(PICTURES, IDENTITIES) if which == "gallery" else (PICTURES, IDENTITIES)
    with pytest.raises(ValueError, match=f"`{which}` must give the same pictures in the same order"):
        ranked(query, gallery, explainer, explain=5, top=13)
    assert len(ranked(query, gallery, explainer).indices) == 5  # the ranking alone needs no second reading


def test_a_dataset_shuffled_once_is_explained(explainer):
    fixed = dataset(PICTURES, IDENTITIES).shuffle(100, seed=1, reshuffle_each_iteration=False)
    (one,) = ranked((ASKED, WANTED), fixed, explainer, explain=1).explained
    np.testing.assert_allclose(one.maps.sum((1, 2)), one.similarities, atol=1e-5)


def test_a_dataset_that_ends_early_the_second_time_is_not_explained(explainer):
    reads = []

    def entries():
        reads.append(1)
        yield from zip(PICTURES[: 13 if len(reads) == 1 else 4], IDENTITIES, strict=False)

    signature = (tf.TensorSpec((*SIZE, 3), "float32"), tf.TensorSpec((), "int64"))
    gallery = tf.data.Dataset.from_generator(entries, output_signature=signature)
    with pytest.raises(ValueError, match="`gallery` must give the same pictures"):
        ranked((ASKED, WANTED), gallery, explainer, explain=1, top=13)


# ------------------------------------------------------------------------------------------------------------- refusals

ROWS, KNOWN = np.eye(4, 3, dtype="float32") + 0.1, [0, 1, 0, 1]


@pytest.mark.parametrize("side", ["query", "gallery"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "must be .pictures, identities, cameras.*Received: NoneType"),
        (ROWS, "must be .pictures, identities, cameras.*Received: ndarray"),
        ((ROWS,), "Received: tuple"),
        ((ROWS, KNOWN, KNOWN, KNOWN), "Received: tuple"),
        (((ROWS, KNOWN) for _ in range(2)), "Received: generator"),
        (tf.data.Dataset.from_tensor_slices(ROWS), r"must give \(pictures, identities\)"),
        (tf.data.Dataset.from_tensor_slices((ROWS, KNOWN)).take(0), "at least one picture"),
        ((ROWS[:0], np.zeros(0, int)), "at least one picture"),
        ((ROWS, KNOWN[:3]), "one identity and one camera per picture. Received: 4 pictures, 3"),
        ((ROWS, KNOWN, KNOWN[:2]), "one identity and one camera per picture"),
        ((ROWS, np.array(KNOWN, float)), "whole numbers.*Received: dtype float64"),
        ((ROWS, np.eye(4, dtype=int)), r"whole numbers.*Received: dtype int64, shape \(4, 4\)"),
        ((ROWS, list("abab")), "whole numbers.*dtype <U1"),
        ((ROWS[:1], 3), r"whole numbers.*shape \(\)"),
        ((ROWS, KNOWN, np.array(KNOWN, float)), "whole numbers"),
        (tf.data.Dataset.from_tensor_slices((ROWS, np.eye(4, dtype=int))).batch(2), "whole numbers"),
        ((ROWS * np.nan, KNOWN), "finite embeddings"),
        ((PICTURES[:4], KNOWN), "`model` must be given to embed pictures"),
    ],
)
def test_entries_that_cannot_be_ranked_are_refused(side, given, message):
    fine = ROWS, KNOWN
    query, gallery = (given, fine) if side == "query" else (fine, given)
    with pytest.raises(ValueError, match=message) as error:
        ranked(query, gallery)
    assert f"`{side}`" in str(error.value)


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


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_embeddings_are_not_explained(explainer, side):
    query, gallery = [(given, known) for given, known in ((ASKED, WANTED), (PICTURES, IDENTITIES))]
    if side == "query":
        query = explainer.embed(ASKED), WANTED
    else:
        gallery = dataset(explainer.embed(PICTURES), IDENTITIES)
    with pytest.raises(ValueError, match=f"`{side}` must hold pictures to be explained"):
        ranked(query, gallery, explainer, explain=1)


def test_an_explainer_without_grad_cam_explains_no_distance(model):
    with pytest.raises(ValueError, match="computes 'gradcam'"):
        ranked(
            (ASKED, WANTED),
            (PICTURES, IDENTITIES),
            Explainer(model, methods="guided_backprop"),
            metric="euclidean",
            explain=1,
        )


def test_pictures_of_another_shape_are_refused(explainer):
    with pytest.raises(ValueError, match="shape that the model takes"):
        ranked((ASKED[:, :8], WANTED), (PICTURES, IDENTITIES), explainer)
    with pytest.raises(ValueError, match="`model` must be a Keras 3 model"):
        ranked((ASKED, WANTED), (PICTURES, IDENTITIES), "a model")


@pytest.mark.parametrize("name", ["every", "top", "shown"])
@pytest.mark.parametrize("number", [0, -3, 1.0, True, None])
def test_a_gallery_counts_in_whole_numbers(name, number):
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number >= 1"):
        Gallery((ROWS, KNOWN), **{name: number})


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
    expected = [one.places for one in market1501((*query, None), (*gallery, None), score)]
    np.testing.assert_array_equal(ranked(query, gallery, metric=metric, top=50).indices, expected)


def test_a_shuffled_dataset_is_not_explained_however_short_the_embeddings(model):
    short = net(seed=0)
    short.get_layer("dense").set_weights([1e-4 * w for w in short.get_layer("dense").get_weights()])
    with pytest.raises(ValueError, match="same pictures in the same order"):
        ranked(shuffled(ASKED, WANTED), (PICTURES, IDENTITIES), short, explain=5)


@pytest.mark.parametrize("told_by", ["identities", "embeddings"])
def test_a_shuffled_dataset_is_not_explained_however_close_the_embeddings(told_by):
    alike = net(seed=0)
    kernel, bias = alike.get_layer("dense").get_weights()
    alike.get_layer("dense").set_weights([kernel, bias + 300])
    identities = IDENTITIES if told_by == "identities" else np.zeros_like(IDENTITIES)
    with pytest.raises(ValueError, match="same pictures in the same order"):
        ranked((PICTURES, identities, CAMERAS), shuffled_with(PICTURES, identities, CAMERAS), alike, explain=2)
    fixed = shuffled_with(PICTURES, identities, CAMERAS, again=False)
    assert len(ranked((PICTURES, identities, CAMERAS), fixed, alike, explain=2).explained) == 2


def shuffled_with(*columns, again=True):
    return tf.data.Dataset.from_tensor_slices(columns).shuffle(100, seed=1, reshuffle_each_iteration=again).batch(4)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ((np.zeros((0, 4)), []), "`query` must hold at least one picture"),
        ((np.zeros(3), [1, 2, 3]), r"`query` must hold pictures or embeddings \(N, D\)\. Received: shape \(3,\)"),
    ],
    ids=["none", "numbers"],
)
def test_what_is_neither_pictures_nor_embeddings_is_said_so(query, message):
    with pytest.raises(ValueError, match=message):
        ranked(query, (np.eye(4, dtype="float32"), [1, 2, 3, 4]))


@pytest.mark.filterwarnings(NO_MATCH)
def test_where_no_query_has_anything_to_show_nothing_is_explained(explainer):
    query, gallery = (ASKED[:1], [1], [0]), (PICTURES[:3], [1, 1, 1], [0, 0, 0])
    assert ranked(query, gallery, explainer, explain=1).explained == ()


@pytest.mark.parametrize(
    "given",
    [
        (iter(ROWS), KNOWN),
        (1, 2),
        tf.data.Dataset.from_tensor_slices((ROWS, {"identity": KNOWN})),
    ],
    ids=["a generator", "numbers", "labels in a dict"],
)
def test_other_entries_that_cannot_be_ranked_are_refused_by_name(given):
    with pytest.raises(ValueError, match="`query` must"):
        ranked(given, (ROWS, KNOWN))


@pytest.mark.parametrize("explain", [-1, 1.5, None, [0.0]])
def test_numbers_of_queries_that_are_none_are_refused(explainer, explain):
    with pytest.raises(ValueError, match="`explain` must"):
        ranked((ASKED, WANTED), (PICTURES, IDENTITIES), explainer, explain=explain)
