"""A run of one probe and its log entries, made up."""

from __future__ import annotations

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_gradcam.drawing.panels import Frame
from keras_gradcam.tensorboard_plugin.metadata import ExplainedInfo, ProbeInfo, RunInfo
from keras_gradcam.training.history import Recorder
from keras_gradcam.training.writers.base import LogEntry, Run

RUN = Run(
    RunInfo((300, 200), (ProbeInfo(),), explained=ExplainedInfo("conv", "Class()", methods=("gradcam",))),
    np.zeros((1, 300, 200, 3), np.uint8),
)


def frame():
    return Frame(
        np.zeros((8, 8, 3), np.uint8),
        cams={"Grad-CAM": np.eye(2)},
        vmax=1.0,
        gradients={"guided Grad-CAM": np.ones((8, 8, 3))},
    )


def entry(epoch):
    return LogEntry(Recorder().add(epoch, np.eye(2)[None], {"score": np.ones(1)}), (frame(),))


def tensors(folder):
    """All that TensorBoard finds in the event files of a folder, by tag."""
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    return {tag: accumulator.Tensors(tag) for tag in accumulator.Tags()["tensors"]}
