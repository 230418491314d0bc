"""Image, scalar and text summaries for TensorBoard, and the data of its Grad-CAM tab."""

from __future__ import annotations

import itertools
import os
import socket
import time
import warnings
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from ...attribution.methods.names import TITLES
from ...drawing.panels import Frame, draw_filmstrip, overview, panel
from ...drawing.pixels import Style, encoded, no_larger_than_a_cell, relief
from ...errors import ArgumentError
from ...reid.figures import rank_figure
from ...tensorboard_plugin import summary as tab
from ...tensorboard_plugin.metadata import ProbeInfo, RunInfo
from .base import LogEntry, Run, Summary

# Two files opened within one second must not have one name.
_numbers = itertools.count()

# The folders that are being written to in this process.
_live: weakref.WeakValueDictionary[str, TensorBoardWriter] = weakref.WeakValueDictionary()


class TensorBoardWriter:
    """Writes an event file of its own in one folder.

    Tags: ``gradcam/probe_00`` ... and ``gradcam/overview``, scalars as named, ``gradcam_ranking/query_00`` ... and
    ``gradcam_filters/kernels`` where asked for (all ``gradcam_start...`` before the first epoch),
    ``gradcam_filmstrip/probe_00`` ... and ``gradcam/report`` at the end, and ``gradcam_tab/...`` for the tab. Every
    entry is flushed to the file when :meth:`write` returns. The file is written with TensorFlow's entry writer rather
    than ``tf.summary``, whose global state (default writer, ``record_if``) belongs to the user.

    Args:
        directory: The run's folder; a sub-run of its own, since two live writers in one folder hide each other.
        style: How maps are drawn.
    """

    def __init__(self, directory: str, style: Style | None = None) -> None:
        self._directory = directory
        self._folder = os.path.abspath(directory)
        self._style = style or Style()
        self._event_writer: Any = None
        self._run: Run | None = None

    def prepare(self, run: Run) -> None:
        from tensorflow import errors, io

        attempt = os.path.join(self._directory, f".writable-{os.getpid()}-{next(_numbers)}")
        try:
            io.gfile.makedirs(self._directory)
            with io.gfile.GFile(attempt, "w") as file:
                file.write("")
            io.gfile.remove(attempt)
        except (OSError, errors.OpError) as error:
            raise ArgumentError(
                "log_dir", "be a folder that can be written to", f"{self._directory!r} ({error})"
            ) from error
        self.close()
        other = _live.get(self._folder)
        if other is not None and other is not self:
            warnings.warn(
                f"Another GuidedGradCAMCallback still writes to {self._directory!r}; TensorBoard shows one of the two. "
                "Give each a `log_dir` of its own.",
                UserWarning,
                stacklevel=4,
            )
        _live[self._folder] = self
        self._run = run

    def write(self, entry: LogEntry) -> None:
        # Numbers first: a picture that cannot be drawn must not take them along.
        scalars = [_scalar(tag, value) for tag, value in entry.scalars.items()]
        self._add(entry.step, [*scalars, *_tab_values(entry)])
        prefix = "gradcam_start" if entry.start else "gradcam"
        pictures = [_image(f"{prefix}/overview", overview(entry.frames, entry.title, self._style))]
        for number, frame in enumerate(entry.frames):
            pictures.append(_image(f"{prefix}/probe_{number:02d}", panel(frame, self._style)))
        for ranking in entry.rankings:
            pictures.append(_image(f"{prefix}_ranking/query_{ranking.index:02d}", rank_figure(ranking, self._style)))
        pictures += [_image(f"{prefix}_{name}", picture) for name, picture in entry.pictures.items()]
        self._add(entry.step, pictures)

    def summarize(self, summary: Summary) -> None:
        values = [
            _image(f"gradcam_filmstrip/probe_{number:02d}", draw_filmstrip(filmstrip, self._style))
            for number, filmstrip in enumerate(summary.filmstrips)
        ]
        self._add(summary.step, [*values, _text("gradcam/report", summary.report)])

    def close(self) -> None:
        if _live.get(self._folder) is self:
            del _live[self._folder]
        if self._event_writer is not None:
            self._event_writer.close()
            self._event_writer = None

    def _add(self, step: int, values: Iterable[Any]) -> None:
        try:
            self._append(step, values)
        except Exception:
            # What follows a torn entry in a file cannot be read: the next entry begins a new file.
            self._event_writer = None
            raise

    def _append(self, step: int, values: Iterable[Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary as Values

        if self._event_writer is None:
            self._event_writer = self._opened()
            now = time.time()
            self._event_writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
            self._event_writer.write(tab.session_start(step, now).SerializeToString())
            if self._run is not None:
                self._append(0, [tab.run_summary(_run_info(self._run, self._style)), *_tab_pictures(self._run)])
        # An event per value keeps each entry small, as TensorFlow's own writers do.
        for value in values:
            event = Event(wall_time=time.time(), step=step, summary=Values(value=[value]))
            self._event_writer.write(event.SerializeToString())
        self._event_writer.flush()

    def _opened(self) -> Any:
        from tensorflow import io

        io.gfile.makedirs(self._directory)
        unique = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        return io.TFRecordWriter(os.path.join(self._directory, f"events.out.tfevents.{unique}.gradcam"))


def _run_info(run: Run, style: Style) -> RunInfo:
    labels = [None] * len(run.pictures) if run.labels is None else [int(label) for label in run.labels]
    regions = run.regions or [None] * len(labels)
    return RunInfo(
        input_size=run.input_size,
        probes=tuple(ProbeInfo(label, region) for label, region in zip(labels, regions, strict=True)),
        layer=run.layer,
        target=run.target,
        quantity=run.quantity,
        label=run.label,
        methods=run.methods,
        colormap=style.colormap,
        scale=style.scale,
        class_names=run.names,
        every=run.every,
        pairs=run.partners is not None,
    )


def _tab_pictures(run: Run) -> list[Any]:
    values = [tab.pictures_summary([encoded(picture) for picture in run.pictures])]
    if run.partners is not None:
        values.append(tab.partners_summary([encoded(picture) for picture in run.partners]))
    return values


def _tab_values(entry: LogEntry) -> list[Any]:
    record = entry.record
    values = [tab.numbers_summary(record.numbers, entry.start)]
    if record.maps is not None:
        values.append(tab.maps_summary(record.maps, entry.start))
    if record.partner_maps is not None:
        values.append(tab.partner_maps_summary(record.partner_maps, entry.start))
    reliefs = [_guided_picture(frame) for frame in entry.frames]
    guided = [picture for picture in reliefs if picture is not None]
    if guided:
        values.append(tab.guided_summary(guided, entry.start))
    return values


def _guided_picture(frame: Frame) -> bytes | None:
    """Guided Grad-CAM, or else the first gradient, of one probe for the tab, small: it is kept for every epoch."""
    gradient = frame.gradients.get(TITLES["guided_gradcam"], next(iter(frame.gradients.values()), None))
    if gradient is None:
        return None
    return encoded(no_larger_than_a_cell(relief(gradient)[None])[0], lossy=True)


def _image(tag: str, picture: np.ndarray) -> Any:
    from tensorboard.plugins.image import metadata

    height, width = picture.shape[:2]
    content = np.array([str(width).encode(), str(height).encode(), encoded(picture)], dtype=object)
    return _value(tag, content, metadata.create_summary_metadata(display_name="", description=""))


def _scalar(tag: str, value: float) -> Any:
    from tensorboard.plugins.scalar import metadata

    return _value(tag, np.float32(value), metadata.create_summary_metadata(display_name="", description=""))


def _text(tag: str, markdown: str) -> Any:
    from tensorboard.plugins.text import metadata

    content = np.array(markdown.encode(), dtype=object)
    return _value(tag, content, metadata.create_summary_metadata(display_name="", description=""))


def _value(tag: str, content: Any, metadata: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary as Values
    from tensorboard.util.tensor_util import make_tensor_proto

    return Values.Value(tag=tag, tensor=make_tensor_proto(content), metadata=metadata)


def _group(name: str) -> str:
    """Where a number of all probes together stands among TensorBoard's scalars."""
    return "gradcam_pairs" if name.startswith("similarity_") else "gradcam_retrieval"
