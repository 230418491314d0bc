"""The words below pictures."""

from __future__ import annotations

import numpy as np
import pytest
from frame_builders import builder, frames

from keras_gradcam import Class, Distance, Dot, Output, Similarity, Triplet
from keras_gradcam.training.captions import Captions
from keras_gradcam.training.history import Recorder


def test_captions_say_truth_prediction_and_what_is_wrong():
    predictions = {"predicted": np.array([1, 1]), "confidence": np.array([0.7, 0.9]), "explained": np.array([0, 1])}
    wrong, right = frames(np.array([0, 1]), {0: "cat", 1: "dog"}, **predictions)
    assert wrong.caption == (
        "truth: cat", "predicted: dog 0.70", "explained: cat", "epoch 4", "score 1.5", "top 1", "wrong"
    )  # fmt: skip
    assert right.caption[-1] == "top 2"
    assert (wrong.wrong, right.wrong) == (True, False)
    assert wrong.short == ("dog 0.70 (truth: cat)",)
    assert right.short == ("dog 0.90",)


def test_without_labels_nothing_is_wrong_and_without_classes_the_target_is_named():
    one, _ = frames(None)
    assert one.caption == ("explained: Unit(3)", "epoch 4", "score 1.5", "top 1")
    assert one.short == ("score 1.5",)
    assert not one.wrong


def test_a_scale_per_frame_says_so():
    assert frames(None, per_frame=True)[0].caption[-1] == "top 1 (this frame)"


@pytest.mark.parametrize(
    ("target", "scores", "expected"),
    [
        (Similarity(), (0.834, -0.5), ("similarity 0.834", "similarity -0.5")),
        (-Similarity(), (0.834, -0.5), ("similarity -0.834", "similarity 0.5")),
        (Dot(), (12.0, -3.0), ("inner product 12", "inner product -3")),
        (Distance(), (-3.2, -0.0), ("distance 3.2", "distance 0")),
        (Distance(), (0.0, -1e-3), ("distance 0", "distance 0.001")),
        (-Distance(), (3.2, 0.5), ("distance 3.2", "distance 0.5")),
        (2 * Distance(), (-6.4, -1.0), ("distance 3.2", "distance 0.5")),
        (Output("embedding", -0.5 * Distance()), (1.6, 0.25), ("distance 3.2", "distance 0.5")),
        (-Output("embedding", Distance()), (3.2, 0.5), ("distance 3.2", "distance 0.5")),
        (0 * Distance(), (0.0, 0.0), ("score 0", "score 0")),
        (Distance() - Similarity(), (-3.2, 0.5), ("score -3.2", "score 0.5")),
        (2 * Class(1), (-3.2, 0.5), ("score -3.2", "score 0.5")),
        (Triplet([1.0], [2.0]), (-3.2, 0.5), ("score -3.2", "score 0.5")),
    ],
    ids=str,
)
def test_a_distance_reads_as_a_distance(target, scores, expected):
    for labels, before in ((None, ()), (np.array([7, 8]), ("identity 7", "identity 8"))):
        found = frames(labels, scores=scores, target=target)
        for number, frame in enumerate(found):
            assert frame.short == (*before[number : number + 1], expected[number])
            assert frame.caption[-2] == expected[number]


def test_long_names_are_shortened_in_the_middle():
    predictions = {"predicted": np.array([0, 0]), "confidence": np.ones(2)}
    one, _ = frames(None, {0: "a" * 50 + "z" * 50}, **predictions)
    assert one.short == ("a" * 14 + "…" + "z" * 13 + " 1.00",)


def test_a_filmstrip_says_nothing_of_a_similarity_that_is_not_known():
    recorder, captions = Recorder(), Captions(builder().run.info)
    shown = []
    for epoch in range(2):
        maps = np.stack([np.eye(2), np.eye(2) * epoch])
        record = recorder.add(epoch, maps, {"score": np.full(2, 1.5)})
        shown.append([captions.filmstrip(record, number) for number in range(2)])
    assert shown == [
        [("epoch 0", "score 1.5"), ("epoch 0", "score 1.5")],
        [("epoch 1", "score 1.5", "map similarity 1.00"), ("epoch 1", "score 1.5")],
    ]
