"""Words below pictures, and the probabilities in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keras_gradcam import Class, Distance, Dot, Output, Similarity, Triplet
from keras_gradcam.attribution.explanation import Explanation
from keras_gradcam.attribution.targets.classes import class_probabilities
from keras_gradcam.training.frames import Captions
from keras_gradcam.training.history import Recorder


def frames(labels, names=None, per_frame=False, scores=(1.5, 2.5), target=None, **said):
    scores = np.array(scores)
    record = Recorder().add(4, np.ones((2, 2, 2)), {"score": scores, **said})
    captions = Captions(np.zeros((2, 4, 4, 3), np.uint8), labels, names or {}, "Unit(3)", per_frame)
    if target is not None:
        captions = replace(captions, quantity=target.quantity, label="identity")
    tops = np.array([1.0, 2.0])
    return captions.frames(Explanation(scores, None, maps={"gradcam": np.ones((2, 2, 2))}), record, tops, tops)


def test_captions_say_truth_prediction_and_what_is_wrong():
    said = {"predicted": np.array([1, 1]), "confidence": np.array([0.7, 0.9]), "explained": np.array([0, 1])}
    wrong, right = frames(np.array([0, 1]), {0: "cat", 1: "dog"}, **said)
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
    said = {"predicted": np.array([0, 0]), "confidence": np.ones(2)}
    one, _ = frames(None, {0: "a" * 50 + "z" * 50}, **said)
    assert one.short == ("a" * 14 + "…" + "z" * 13 + " 1.00",)


@pytest.mark.parametrize(
    ("outputs", "ending", "expected"),
    [
        ([[0.2, 0.8]], "softmax", [[0.2, 0.8]]),
        ([[0.9, 0.8]], "sigmoid", [[0.9, 0.8]]),
        ([[0.75]], "sigmoid", [[0.25, 0.75]]),
        ([[np.log(3)]], "", [[0.25, 0.75]]),
        ([[-800.0]], "", [[1.0, 0.0]]),
        ([[0.0, np.log(3)]], "", [[0.25, 0.75]]),
        ([[0.2, 0.8], [0.5, 0.5]], "", [[0.2, 0.8], [0.5, 0.5]]),
        ([[np.log(0.2), np.log(0.8)]], "log_softmax", [[0.2, 0.8]]),
        ([[1000.0, 0.0]], "", [[1.0, 0.0]]),
    ],
)
def test_probabilities_from_every_kind_of_output(outputs, ending, expected):
    np.testing.assert_allclose(class_probabilities(np.array(outputs), ending), expected, atol=1e-12)


def test_outputs_that_are_no_classes_have_no_probabilities():
    assert class_probabilities(np.zeros((2, 3, 3)), "") is None
    assert class_probabilities([np.zeros((2, 3))], "") is None


def test_a_filmstrip_says_nothing_of_a_similarity_that_is_not_known():
    recorder, captions = Recorder(), Captions(np.zeros((2, 4, 4, 3), np.uint8), None, {}, "Unit(3)")
    shown = []
    for epoch in range(2):
        maps = np.stack([np.eye(2), np.eye(2) * epoch])
        record = recorder.add(epoch, maps, {"score": np.full(2, 1.5)})
        shown.append([captions.film(record, number) for number in range(2)])
    assert shown == [
        [("epoch 0", "score 1.5"), ("epoch 0", "score 1.5")],
        [("epoch 1", "score 1.5", "map similarity 1.00"), ("epoch 1", "score 1.5")],
    ]
