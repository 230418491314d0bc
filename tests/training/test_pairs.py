"""Which probes make pairs, and how well identities are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_gradcam import Class, Distance, Output, SelfSimilarity, Similarity, Triplet
from keras_gradcam.training.pairs import make_pairs, separation
from keras_gradcam.training.probe import ProbeSamples

PICTURES = np.arange(6 * 4 * 2 * 3, dtype=np.float32).reshape(6, 4, 2, 3)


def samples(pictures, labels):
    return ProbeSamples(pictures, labels, np.arange(len(pictures)))


def test_identities_pair_each_picture_with_the_next_of_its_own():
    labelled = samples(PICTURES, np.array([7, 3, 7, 3, 7, 9])[:5])
    with pytest.raises(ValueError, match="two pictures of each identity"):
        make_pairs(Similarity(), samples(PICTURES, np.array([7, 3, 7, 3, 7, 9])))
    target, pairs = make_pairs(Similarity(), samples(PICTURES[:5], labelled.labels))
    assert pairs.source.tolist() == [2, 3, 4, 1, 0]
    np.testing.assert_array_equal(pairs.pictures, PICTURES[[2, 3, 4, 1, 0]])
    np.testing.assert_array_equal(target.references[0], PICTURES[[2, 3, 4, 1, 0]])
    # Partners of probe 0 (identity 7) are the pictures 2, 3, 4, 1, 0: of identity 7 and not itself are 2 and 4.
    assert pairs.positive[0].tolist() == [True, False, True, False, False]
    assert pairs.negative[0].tolist() == [False, True, False, True, False]
    assert pairs.positive[1].tolist() == [False, True, False, False, False]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_no_picture_is_its_own_partner_and_every_pair_counts_once(labels):
    labels = np.array(labels)
    labelled = samples(np.zeros((len(labels), 2, 2, 1)), labels)
    if min(np.bincount(labels)[np.unique(labels)]) < 2:
        with pytest.raises(ValueError, match="`probe` must hold"):
            make_pairs(Similarity(), labelled)
        return
    _, pairs = make_pairs(Similarity(), labelled)
    assert (pairs.source != np.arange(len(labels))).all()
    assert sorted(pairs.source) == list(range(len(labels)))
    assert (labels[pairs.source] == labels).all()
    same = sum((labels == label).sum() * ((labels == label).sum() - 1) for label in np.unique(labels))
    assert pairs.positive.sum() == same
    assert not (pairs.positive & pairs.negative).any()
    assert (pairs.positive | pairs.negative).sum() == len(labels) ** 2 - len(labels)


def test_given_pictures_are_the_partners_as_many_as_there_are_probes():
    target, pairs = make_pairs(Output("f", Distance(PICTURES)), samples(PICTURES[:2] + 1, None))
    np.testing.assert_array_equal(pairs.pictures, PICTURES[:2])
    assert isinstance(target, Output)
    assert isinstance(target.target, Distance)
    assert len(target.target.references[0]) == 2
    assert pairs.source is None
    assert pairs.positive.tolist() == [[True, False], [False, True]]
    _, pairs = make_pairs(Similarity(PICTURES), samples(PICTURES[:3] + 1, np.array([4, 4, 5])))
    # What the partners of labelled probes show is not known.
    assert not pairs.positive.any()
    assert not pairs.negative.any()


def test_a_negative_target_makes_pairs_too():
    target, pairs = make_pairs(-Similarity(), samples(PICTURES[:2], np.array([1, 1])))
    assert pairs.name == "-Similarity"
    assert repr(target) == repr(pairs.score(PICTURES[:2])) == "-Similarity(pictures (2, 4, 2, 3))"
    assert make_pairs(Similarity() - Similarity(), samples(PICTURES, None))[1] is None


@pytest.mark.parametrize(
    "target",
    [Class(1), SelfSimilarity(), Similarity(np.ones((6, 5))), Similarity(PICTURES[:1]), Triplet(PICTURES, PICTURES)],
    ids=["class", "self", "embeddings", "one for all", "triplet"],
)
def test_other_targets_make_no_pairs(target):
    same, pairs = make_pairs(target, samples(PICTURES, np.arange(6) % 3))
    assert same is target
    assert pairs is None


def test_a_reference_cannot_be_made_up_without_identities():
    with pytest.raises(ValueError, match=r"`probe` must have identities .* Received: Similarity\(\)"):
        make_pairs(Similarity(), samples(PICTURES, None))


def test_separation_by_hand():
    _, pairs = make_pairs(Similarity(PICTURES[:2]), samples(PICTURES[:2] + 1, None))
    one = np.array([[2.0, 0.0], [0.0, 3.0]])
    other = np.array([[1.0, 1.0], [-1.0, 0.0]])
    half = np.sqrt(0.5)
    # Pairs: cos 45 degrees and cos 90; others: cos 180 and cos 45.
    found = separation(pairs, one, other)
    assert found["similarity_positive"] == pytest.approx(half / 2)
    assert found["similarity_negative"] == pytest.approx((-1 + half) / 2)
    assert found["similarity_gap"] == pytest.approx(0.5)


def test_separation_of_one_identity_has_no_negatives_and_no_gap():
    _, pairs = make_pairs(Similarity(), samples(PICTURES[:2], np.array([1, 1])))
    assert set(separation(pairs, np.eye(2), np.eye(2))) == {"similarity_positive"}
