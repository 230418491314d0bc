"""Scales of colours and filmstrips of a training."""

from __future__ import annotations

import numpy as np
from frame_builders import builder

from keras_gradcam.attribution.explanation import Explanation
from keras_gradcam.training.frames import FrameBuilder
from keras_gradcam.training.history import Recorder
from keras_gradcam.training.monitor import Measurement


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
