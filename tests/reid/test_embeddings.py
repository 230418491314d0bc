"""The same from arrays, pictures and data sets of any kind; what is read a second time is what was embedded."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from backends import numbers, tensor
from models import randomised
from oracles import assert_close
from oracles_reid import market1501
from retrieval_sets import (
    ASKED,
    CAMERAS,
    IDENTITIES,
    KNOWN,
    PICTURES,
    ROWS,
    SEEN,
    SIZE,
    WANTED,
    dataset,
    net,
    ranked,
    shuffled,
    shuffled_with,
)

from keras_gradcam import Explainer
from keras_gradcam.reid import rank


def forms(pictures, identities, cameras, embed):
    """The same entries, given in every way."""
    columns = (pictures, identities, cameras)
    return {
        "pictures": columns,
        "a list of these": list(columns),
        "lists": (list(pictures), identities.tolist(), cameras.tolist()),
        "tensors": tuple(map(tensor, columns)),
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


class Batches(keras.utils.PyDataset):
    """Columns in batches of four."""

    def __init__(self, *columns):
        super().__init__()
        self.columns = columns

    def __len__(self):
        return -(-len(self.columns[0]) // 4)

    def __getitem__(self, index):
        return tuple(column[4 * index : 4 * index + 4] for column in self.columns)


def dicts(*columns):
    return [{"picture": one, "person": who, "seen": by} for one, who, by in zip(*columns, strict=True)]


def dataset_of_dicts(*columns):
    names = ("picture", "person", "seen")
    return dataset(dict(zip(names, columns, strict=True))).batch(3)


BY_KEY = {"image": "picture", "label": "person", "camera": "seen"}
BY_FUNCTION = {name: lambda sample, key=key: sample[key] for name, key in BY_KEY.items()}


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (Batches, {}),
        (lambda *columns: list(Batches(*columns)), {}),
        (lambda *columns: list(zip(*columns, strict=True)), {}),
        (dicts, BY_KEY),
        (dicts, BY_FUNCTION),
        (dataset_of_dicts, BY_KEY),
        (dataset_of_dicts, BY_FUNCTION),
    ],
    ids=["PyDataset", "batches", "samples", "dicts", "functions", "dataset of dicts", "functions of a dataset"],
)
def test_data_sets_of_any_kind_are_ranked_and_explained_the_same(explainer, make, options):
    query, gallery = (ASKED, WANTED, SEEN), (PICTURES, IDENTITIES, CAMERAS)
    expected = ranked(query, gallery, explainer, explain=2)
    result = ranked(make(*query), make(*gallery), explainer, explain=2, **options)
    np.testing.assert_array_equal(result.indices, expected.indices)
    np.testing.assert_array_equal(result.cmc, expected.cmc)
    for found, other in zip(result.explained, expected.explained, strict=True):
        np.testing.assert_allclose(found.maps, other.maps, atol=1e-6)
    # Arrays are taken as they are beside a data set.
    np.testing.assert_array_equal(ranked(query, make(*gallery), explainer, **options).indices, expected.indices)


def test_what_can_be_read_once_is_ranked_and_not_explained(explainer):
    query, gallery = (ASKED, WANTED, SEEN), (PICTURES, IDENTITIES, CAMERAS)
    result = ranked(query, iter(Batches(*gallery)), explainer)
    np.testing.assert_array_equal(result.indices, ranked(query, gallery, explainer).indices)
    with pytest.raises(ValueError, match=r"`gallery` must give the same pictures .*iterator, which can be read once"):
        ranked(query, iter(Batches(*gallery)), explainer, explain=1)


def test_pictures_of_several_inputs_are_ranked_and_not_explained():
    inputs = [keras.Input((*SIZE, 3), name="picture"), keras.Input((2,), name="number")]
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, name="conv")(inputs[0]))
    joined = keras.layers.Concatenate()([pooled, inputs[1]])
    model = randomised(keras.Model({"picture": inputs[0], "number": inputs[1]}, joined))

    def both(pictures):
        return {"picture": pictures, "number": np.ones((len(pictures), 2), "float32")}

    query, gallery = (both(ASKED), WANTED), (both(PICTURES), IDENTITIES)
    vectors = (numbers(model(both(ASKED))), WANTED), (numbers(model(both(PICTURES))), IDENTITIES)
    np.testing.assert_array_equal(ranked(query, gallery, model).indices, ranked(*vectors).indices)
    with pytest.raises(ValueError, match="`query` must hold pictures of a single input"):
        ranked(query, gallery, model, explain=1)


def test_pictures_are_embedded_by_the_model(model, explainer):
    """By the model as it is called, with the current weights."""
    query, gallery = numbers(model(ASKED)), numbers(model(PICTURES))
    expected = market1501((query, WANTED, SEEN), (gallery, IDENTITIES, CAMERAS))
    result = ranked((ASKED, WANTED, SEEN), (PICTURES, IDENTITIES, CAMERAS), model, top=13)
    for number, one in enumerate(expected):
        np.testing.assert_array_equal(result.indices[number, : len(one.indices)], one.indices)
        np.testing.assert_allclose(result.similarities[number, : len(one.indices)], one.scores, rtol=1e-4)
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


def test_progress_is_shown_or_not(model, capsys):
    for shown in (False, True):
        rank((ASKED, WANTED), (PICTURES, IDENTITIES), Explainer(model, batch_size=4), progress=shown)
        assert ("13/13" in capsys.readouterr().out) == shown


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

    class Gallery:
        __iter__ = staticmethod(entries)

    gallery = Gallery()
    with pytest.raises(ValueError, match="`gallery` must give the same pictures"):
        ranked((ASKED, WANTED), gallery, explainer, explain=1, top=13)


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


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_embeddings_are_not_explained(explainer, side):
    query, gallery = [(given, known) for given, known in ((ASKED, WANTED), (PICTURES, IDENTITIES))]
    if side == "query":
        query = explainer.embed(ASKED), WANTED
    else:
        gallery = dataset(explainer.embed(PICTURES), IDENTITIES)
    with pytest.raises(ValueError, match=f"`{side}` must hold pictures to be explained"):
        ranked(query, gallery, explainer, explain=1)


@pytest.mark.parametrize("side", ["query", "gallery"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "must be .pictures, identities, cameras.*Received: NoneType"),
        (ROWS, "must be .pictures, identities, cameras.*Received: ndarray"),
        ((ROWS,), "Received: tuple"),
        ((ROWS, KNOWN, KNOWN, KNOWN), "Received: tuple"),
        (dataset(ROWS), r"must give \(pictures, identities\)"),
        (dataset(ROWS, KNOWN).take(0), "at least one picture"),
        ((ROWS[:0], np.zeros(0, int)), "at least one picture"),
        ((ROWS, KNOWN[:3]), "one identity and one camera per picture. Received: 4 pictures, 3"),
        ((ROWS, KNOWN, KNOWN[:2]), "one identity and one camera per picture"),
        ((ROWS, np.array(KNOWN, float)), "whole numbers.*Received: dtype float64"),
        ((ROWS, np.eye(4, dtype=int)), r"whole numbers.*Received: dtype int64, shape \(4, 4\)"),
        ((ROWS, list("abab")), "whole numbers.*dtype <U1"),
        ((ROWS[:1], 3), r"whole numbers.*shape \(\)"),
        ((ROWS, KNOWN, np.array(KNOWN, float)), "whole numbers"),
        (dataset(ROWS, np.eye(4, dtype=int)).batch(2), "whole numbers"),
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


@pytest.mark.parametrize(
    "given",
    [
        (iter(ROWS), KNOWN),
        (1, 2),
        dataset(ROWS, {"identity": KNOWN}),
    ],
    ids=["a generator", "numbers", "labels in a dict"],
)
def test_other_entries_that_cannot_be_ranked_are_refused_by_name(given):
    with pytest.raises(ValueError, match="`query` must"):
        ranked(given, (ROWS, KNOWN))


def test_pictures_of_another_shape_are_refused(explainer):
    with pytest.raises(ValueError, match="shape that the model takes"):
        ranked((ASKED[:, :8], WANTED), (PICTURES, IDENTITIES), explainer)
    with pytest.raises(ValueError, match="`model` must be a Keras 3 model"):
        ranked((ASKED, WANTED), (PICTURES, IDENTITIES), "a model")
