"""Words below pictures, scales of colours and filmstrips."""

from __future__ import annotations

import numpy as np
import pytest

from keras_gradcam import Class, Distance, Dot, Output, Similarity, Triplet
from keras_gradcam.attribution.explanation import Explanation
from keras_gradcam.attribution.targets.base import Target
from keras_gradcam.tensorboard_plugin.metadata import ProbeInfo, RunInfo
from keras_gradcam.training.frames import FrameBuilder
from keras_gradcam.training.history import Recorder
from keras_gradcam.training.monitor import Measurement
from keras_gradcam.training.writers.base import Run


def builder(labels=None, names=None, per_frame=False, target=None):
    """Of two probes, whose strongest colours are those of 1 and 2."""
    probes = tuple(
        ProbeInfo(None if labels is None else int(label)) for label in (labels if labels is not None else "ab")
    )
    info = RunInfo(
        (4, 4),
        probes,
        target="Unit(3)",
        quantity=Target.quantity if target is None else target.quantity,
        label="class" if target is None else "identity",
        scale="frame" if per_frame else "run",
        class_names=names or {},
    )
    made = FrameBuilder(Run(info, np.zeros((2, 4, 4, 3), np.uint8)))
    made.vmax = np.array([1.0, 2.0])
    return made


def frames(labels, names=None, per_frame=False, scores=(1.5, 2.5), target=None, **predictions):
    scores = np.array(scores)
    record = Recorder().add(4, np.ones((2, 2, 2)), {"score": scores, **predictions})
    explanation = Explanation(scores, None, maps={"gradcam": np.ones((2, 2, 2))})
    return builder(labels, names, per_frame, target).frames(Measurement(explanation, None, predictions, {}), record)


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
    recorder, of_two = Recorder(), builder()
    shown = []
    for epoch in range(2):
        maps = np.stack([np.eye(2), np.eye(2) * epoch])
        record = recorder.add(epoch, maps, {"score": np.full(2, 1.5)})
        shown.append([of_two.filmstrip_caption(record, number) for number in range(2)])
    assert shown == [
        [("epoch 0", "score 1.5"), ("epoch 0", "score 1.5")],
        [("epoch 1", "score 1.5", "map similarity 1.00"), ("epoch 1", "score 1.5")],
    ]


def measured(scale):
    """A measurement and its record, with maps up to ``scale``."""
    maps = np.stack([np.eye(2), np.eye(2) * 3]) * scale
    explanation = Explanation(np.ones(2), None, maps={"gradcam": maps})
    return Measurement(explanation, explanation, {"score": np.ones(2)}, {}), maps


def test_the_scale_of_a_run_grows_and_goes_on_in_the_next_training():
    recorder, of_two = Recorder(), builder()
    of_two.restart()
    for epoch, (scale, expected) in enumerate([(2, [2, 6]), (1, [2, 6]), (3, [3, 9])]):
        measurement, maps = measured(scale)
        shown = of_two.frames(measurement, recorder.add(epoch, maps, {"score": np.ones(2)}, maps))
        assert [frame.vmax for frame in shown] == expected
    assert of_two.partner_vmax.tolist() == [3, 9]
    following = FrameBuilder(of_two.run, before=of_two)
    assert following.vmax.tolist() == [3, 9]
    following.restart()
    assert following.vmax.tolist() == [0, 0]


def test_a_scale_per_frame_follows_the_frame():
    recorder, of_two = Recorder(), builder(per_frame=True)
    for epoch, (scale, expected) in enumerate([(2, [2, 6]), (1, [1, 3])]):
        measurement, maps = measured(scale)
        shown = of_two.frames(measurement, recorder.add(epoch, maps, {"score": np.ones(2)}, maps))
        assert [frame.vmax for frame in shown] == expected
        assert [frame.partner for frame in shown] == [None, None]  # there are no pictures of them


def test_a_map_that_is_not_finite_does_not_set_the_scale():
    of_two = builder()
    maps = np.stack([np.array([[np.inf, 4.0], [np.nan, 1.0]]), np.eye(2)])
    record = Recorder().add(0, maps, {"score": np.ones(2)})
    shown = of_two.frames(Measurement(Explanation(np.ones(2), None, maps={"gradcam": maps}), None, {}, {}), record)
    assert [frame.vmax for frame in shown] == [4, 2]


def test_filmstrips_show_twelve_epochs_evenly_spaced_with_both_ends():
    recorder, of_two = Recorder(), builder()
    for epoch in range(0, 45, 3):
        recorder.add(epoch, np.ones((2, 2, 2)) * epoch, {"score": np.ones(2)})
    first, _ = of_two.filmstrips(recorder.records)
    assert len(first.frames) == len(first.captions) == len(first.similarity) == 12
    assert [first.captions[0][0], first.captions[-1][0]] == ["epoch 0", "epoch 42"]
    assert {frame.vmax for frame in first.frames} == {1.0}
    assert of_two.filmstrips([*recorder.records, Recorder().add(45, None, {"score": np.ones(2)})]) == ()
