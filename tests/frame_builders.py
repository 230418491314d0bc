"""Frames of two probes, as a training builds them."""

from __future__ import annotations

import numpy as np

from keras_gradcam.attribution.explanation import Explanation
from keras_gradcam.attribution.targets.base import Target
from keras_gradcam.tensorboard_plugin.metadata import ExplainedInfo, ProbeInfo, RunInfo
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
        explained=ExplainedInfo(None, "Unit(3)", Target.quantity if target is None else target.quantity),
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
