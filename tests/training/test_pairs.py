"""Which probes make pairs, and how well identities are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_gradcam import Class, Distance, Output, SelfSimilarity, Similarity, Triplet
from keras_gradcam.training.pairs import separation, take_partners
from keras_gradcam.training.probe import Probe

PICTURES = np.arange(6 * 4 * 2 * 3, dtype=np.float32).reshape(6, 4, 2, 3)


def made(pictures, labels):
    return Probe(pictures, labels, np.arange(len(pictures)))


def test_identities_pair_each_picture_with_the_next_of_its_own():
    probe = made(PICTURES, np.array([7, 3, 7, 3, 7, 9])[:5])
    with pytest.raises(ValueError, match="two pictures of each identity"):
        take_partners(Similarity(), made(PICTURES, np.array([7, 3, 7, 3, 7, 9])))
    target, partners = take_partners(Similarity(), made(PICTURES[:5], probe.labels))
    assert partners.source.tolist() == [2, 3, 4, 1, 0]
    np.testing.assert_array_equal(partners.pictures, PICTURES[[2, 3, 4, 1, 0]])
    np.testing.assert_array_equal(target.references[0], PICTURES[[2, 3, 4, 1, 0]])
    # Partners of probe 0 (identity 7) are the pictures 2, 3, 4, 1, 0: of identity 7 and not itself are 2 and 4.
    assert partners.positive[0].tolist() == [True, False, True, False, False]
    assert partners.negative[0].tolist() == [False, True, False, True, False]
    assert partners.positive[1].tolist() == [False, True, False, False, False]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_no_picture_is_its_own_partner_and_every_pair_counts_once(labels):
    labels = np.array(labels)
    probe = made(np.zeros((len(labels), 2, 2, 1)), labels)
    if min(np.bincount(labels)[np.unique(labels)]) < 2:
        with pytest.raises(ValueError, match="`probe` must hold"):
            take_partners(Similarity(), probe)
        return
    _, partners = take_partners(Similarity(), probe)
    assert (partners.source != np.arange(len(labels))).all()
    assert sorted(partners.source) == list(range(len(labels)))
    assert (labels[partners.source] == labels).all()
    same = sum((labels == label).sum() * ((labels == label).sum() - 1) for label in np.unique(labels))
    assert partners.positive.sum() == same
    assert not (partners.positive & partners.negative).any()
    assert (partners.positive | partners.negative).sum() == len(labels) ** 2 - len(labels)


def test_given_pictures_are_the_partners_as_many_as_there_are_probes():
    target, partners = take_partners(Output("f", Distance(PICTURES)), made(PICTURES[:2] + 1, None))
    np.testing.assert_array_equal(partners.pictures, PICTURES[:2])
    assert isinstance(target, Output)
    assert isinstance(target.target, Distance)
    assert len(target.target.references[0]) == 2
    assert partners.source is None
    assert partners.positive.tolist() == [[True, False], [False, True]]
    _, partners = take_partners(Similarity(PICTURES), made(PICTURES[:3] + 1, np.array([4, 4, 5])))
    # What the partners of labelled probes show is not known.
    assert not partners.positive.any()
    assert not partners.negative.any()


def test_a_negative_target_makes_pairs_too():
    target, partners = take_partners(-Similarity(), made(PICTURES[:2], np.array([1, 1])))
    assert partners.name == "-Similarity"
    assert repr(target) == repr(partners.score(PICTURES[:2])) == "-Similarity(pictures (2, 4, 2, 3))"
    assert take_partners(Similarity() - Similarity(), made(PICTURES, None))[1] is None


@pytest.mark.parametrize(
    "target",
    [Class(1), SelfSimilarity(), Similarity(np.ones((6, 5))), Similarity(PICTURES[:1]), Triplet(PICTURES, PICTURES)],
    ids=["class", "self", "embeddings", "one for all", "triplet"],
)
def test_other_targets_make_no_pairs(target):
    same, partners = take_partners(target, made(PICTURES, np.arange(6) % 3))
    assert same is target
    assert partners is None


def test_a_reference_cannot_be_made_up_without_identities():
    with pytest.raises(ValueError, match=r"`probe` must have identities .* Received: Similarity\(\)"):
        take_partners(Similarity(), made(PICTURES, None))


def test_separation_by_hand():
    _, partners = take_partners(Similarity(PICTURES[:2]), made(PICTURES[:2] + 1, None))
    one = np.array([[2.0, 0.0], [0.0, 3.0]])
    other = np.array([[1.0, 1.0], [-1.0, 0.0]])
    half = np.sqrt(0.5)
    # Pairs: cos 45 degrees and cos 90; others: cos 180 and cos 45.
    found = separation(partners, one, other)
    assert found["similarity_positive"] == pytest.approx(half / 2)
    assert found["similarity_negative"] == pytest.approx((-1 + half) / 2)
    assert found["similarity_gap"] == pytest.approx(0.5)


def test_separation_of_one_identity_has_no_negatives_and_no_gap():
    _, partners = take_partners(Similarity(), made(PICTURES[:2], np.array([1, 1])))
    assert set(separation(partners, np.eye(2), np.eye(2))) == {"similarity_positive"}
