"""Which pictures become probes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from backends import BACKEND, tensorflow_only
from hypothesis import given
from hypothesis import strategies as st
from retrieval_sets import dataset

from keras_gradcam.training.probe import Probe, display_pictures, paired_indices, select_display_images, select_regions


def pictures(count):
    """Each filled with its number."""
    return np.full((count, 4, 2, 3), np.arange(count)[:, None, None, None], np.float32)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 12))
def test_every_chosen_picture_has_another_one_and_no_room_is_wasted(labels, limit):
    labels = np.array(labels)
    counts = np.bincount(labels)
    if limit < 2 or counts.max() < 2:
        with pytest.raises(ValueError, match="two pictures of an identity"):
            paired_indices(labels, limit)
        return
    indices = paired_indices(labels, limit)
    taken = np.bincount(labels[indices], minlength=len(counts))
    assert len(set(indices.tolist())) == len(indices) <= limit
    assert (np.diff(indices) > 0).all()
    assert (taken != 1).all()
    # A place stays empty only where one alone would fill it.
    repeated = counts[counts > 1].sum()
    assert len(indices) >= min(limit, repeated) - 1
    # More than four of one identity only once every other one that has four has given them.
    if taken.max() > 4:
        assert (np.minimum(counts, 4)[counts > 1] - taken[counts > 1]).max() <= 0 or len(indices) >= limit - 1
    # Of each identity the first ones.
    for label in np.flatnonzero(taken):
        np.testing.assert_array_equal(
            indices[labels[indices] == label], np.flatnonzero(labels == label)[: taken[label]]
        )


def test_four_of_each_identity_in_the_order_in_which_they_become_pairs():
    assert paired_indices(np.repeat([8, 3, 5], 10), 8).tolist() == [0, 1, 2, 3, 10, 11, 12, 13]
    assert paired_indices(np.array([4, 9, 9, 4, 7]), 2).tolist() == [1, 2]
    # Five indices: two of 1, two of 2, and one is left that 3 cannot use alone but 2 can.
    assert paired_indices(np.array([1, 1, 2, 2, 3, 3, 2, 2]), 5).tolist() == [0, 1, 2, 3, 6]


@pytest.mark.parametrize("classes", [4, 5], ids=["as many as rows", "others"])
@pytest.mark.parametrize("batched", [False, True], ids=["single", "batched"])
def test_one_hot_rows_are_labels_of_one_picture(classes, batched):
    labels = np.array([1, 3, 0, 2, 2, 1])
    images = np.random.default_rng(0).random((6, 4, 2, 3), np.float32)
    rows = np.eye(classes, dtype=np.float32)[labels]
    singles = list(zip(images, rows, strict=True))
    data = [singles, [(images[:3], rows[:3]), (images[3:], rows[3:])]]
    if BACKEND == "tensorflow":
        data += [dataset(images, rows), dataset(images, rows).batch(3)]
    for one in data[batched::2]:
        probe = Probe(one, limit=16).read()
        np.testing.assert_array_equal(probe.images, images)
        np.testing.assert_array_equal(probe.labels, labels)


@tensorflow_only
@pytest.mark.parametrize("batched", [False, True], ids=["single", "batched"])
def test_a_dataset_is_read_until_there_are_enough_pairs(batched):
    import tensorflow as tf

    read = []

    def samples():
        for number in range(10**6):
            read.append(number)
            yield pictures(1)[0] + number, number // 10

    spec = tf.TensorSpec((4, 2, 3), tf.float32), tf.TensorSpec((), tf.int64)
    dataset = tf.data.Dataset.from_generator(samples, output_signature=spec)
    probe = Probe(dataset.batch(7) if batched else dataset, limit=8).read(paired=True)
    assert probe.indices.tolist() == [0, 1, 2, 3, 10, 11, 12, 13]
    assert probe.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    np.testing.assert_array_equal(probe.images[:, 0, 0, 0], probe.indices)
    assert len(read) < 40


@tensorflow_only
def test_a_dataset_without_pairs_is_not_read_to_its_end():
    import tensorflow as tf

    endless = tf.data.Dataset.counter().map(lambda number: (tf.zeros((4, 2, 3)), number))
    with pytest.raises(ValueError, match=r"Received: 128 pictures of 128 identities"):
        Probe(endless, limit=4).read(paired=True)


def test_no_more_pictures_than_probes_are_all_taken():
    # Whoever gives few pictures means these; that one of them has no partner is said later.
    assert Probe((pictures(4), [1, 2, 2, 2]), limit=4).read(paired=True).indices.tolist() == [0, 1, 2, 3]


def test_without_pairs_the_first_are_taken():
    probe = Probe((pictures(9), keras.utils.to_categorical(np.arange(9) % 3)), limit=4).read()
    assert probe.indices.tolist() == [0, 1, 2, 3]
    assert probe.labels.tolist() == [0, 1, 2, 0]


def test_labels_and_pictures_go_together():
    for count in (5, 9):
        with pytest.raises(ValueError, match=f"one label per picture. Received: {count} labels for 7 pictures"):
            Probe((pictures(7), np.arange(count)), limit=3).read()


def test_what_comes_with_the_pictures_is_taken_from_their_indices():
    indices = np.array([0, 3, 5])
    boxes = [(number, 0, number + 1, 4) for number in range(6)]
    assert select_regions(boxes, indices) == (boxes[0], boxes[3], boxes[5])
    shown = select_display_images(pictures(6).astype(np.uint8), indices)
    assert shown[:, 0, 0, 0].tolist() == [0, 3, 5]
    with pytest.raises(
        ValueError, match=r"\(3 of the pictures were chosen to make pairs.*Received: 3 for 6 pictures\."
    ):
        select_regions(boxes[:3], indices)
    with pytest.raises(ValueError, match=r"shape \(6, H, W, 3\).*chosen to make pairs; the last is number 5\)"):
        select_display_images(pictures(5), indices)


def test_samples_may_be_dicts_as_tensorflow_datasets_has_them():
    samples = [{"picture": picture, "class": 5 - number} for number, picture in enumerate(pictures(4))]
    sets = [samples]
    if BACKEND == "tensorflow":
        whole = dataset({"picture": pictures(4), "class": np.arange(5, 1, -1)})
        sets += [whole, whole.batch(3)]
    for data in sets:
        by_key = Probe(data, limit=3, image="picture", label="class").read()
        by_function = Probe(data, limit=3, image=lambda sample: sample["picture"] / 2, label="class").read()
        np.testing.assert_array_equal(by_key.images, pictures(3))
        np.testing.assert_array_equal(by_function.images, pictures(3) / 2)
        assert by_key.labels.tolist() == by_function.labels.tolist() == [5, 4, 3]
    with pytest.raises(ValueError, match=r"'image'.*Received: keys 'picture', 'class'"):
        Probe(samples, image="image", label="class").read()


def test_one_probe_serves_several_callbacks():
    probe = Probe((pictures(6), [5, 1, 2, 3, 1, 5]), limit=4, regions=[(0, 0, 1, row + 1) for row in range(6)])
    paired, first = probe.read(paired=True), probe.read()
    assert paired.indices.tolist() == [0, 1, 4, 5]
    assert first.indices.tolist() == [0, 1, 2, 3]
    assert [box[3] for box in paired.regions] == [1, 2, 5, 6]
    assert repr(probe) == "Probe(tuple, limit=4)"


@pytest.mark.parametrize("limit", [0, 1.5, True])
def test_a_limit_is_a_whole_number(limit):
    with pytest.raises(ValueError, match="`limit` must be a whole number >= 1"):
        Probe(pictures(3), limit=limit)


def test_pictures_are_shown_as_given_and_partners_like_the_probes():
    images, partners = pictures(3) / 4, pictures(3) / 8
    shown, _ = display_pictures(images, None, None, None)
    assert (shown.min(), shown.max()) == (0, 128)  # from 0 to 1 as they are
    given = np.full((3, 4, 2, 3), 7, np.uint8)
    shown, of_partners = display_pictures(images, given, images[[1, 2, 0]], np.array([1, 2, 0]))
    assert (shown == 7).all()
    assert (of_partners == 7).all()
    shown, of_partners = display_pictures(images * 400, None, partners * 400, None)
    alone, _ = display_pictures(partners * 400, None, None, None)
    assert of_partners.shape == alone.shape
    np.testing.assert_array_equal(
        of_partners, display_pictures(np.concatenate([images, partners]) * 400, None, None, None)[0][3:]
    )
