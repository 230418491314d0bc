"""Image and scalar summaries for TensorBoard."""

from __future__ import annotations

import itertools
import os
import socket
import time
from typing import Any

from ..render import Style, encoded, overview, panel
from .base import Record

# Two files opened within one second must not have one name.
_numbers = itertools.count()


class TensorBoardSink:
    """Writes a record as a panel per probe, an overview and scalars into an event file of its own.

    Tags: ``gradcam/probe_00`` ... and ``gradcam/overview`` (``gradcam_start/...`` before the first epoch), scalars as
    named by the record. Every record is flushed to the file when :meth:`write` returns. The file is written with
    TensorFlow's record writer rather than ``tf.summary``, whose global state (default writer, ``record_if``) belongs
    to the user.

    Args:
        directory: The run's folder; a sub-run of its own, since two live writers in one folder hide each other.
        style: How maps are drawn.
    """

    def __init__(self, directory: str, style: Style | None = None) -> None:
        self._directory = directory
        self._style = style or Style()
        self._writer: Any = None

    def prepare(self) -> None:
        from tensorflow import errors, io

        probe = os.path.join(self._directory, f".writable-{os.getpid()}-{next(_numbers)}")
        try:
            io.gfile.makedirs(self._directory)
            with io.gfile.GFile(probe, "w") as file:
                file.write("")
            io.gfile.remove(probe)
        except (OSError, errors.OpError) as error:
            raise ValueError(
                f"`log_dir` must be a folder that can be written to. Received: {self._directory!r} ({error})."
            ) from error

    def write(self, record: Record) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        prefix = "gradcam_start" if record.start else "gradcam"
        pictures = {f"{prefix}/overview": overview(record.frames, record.title, self._style)}
        for number, frame in enumerate(record.frames):
            pictures[f"{prefix}/probe_{number:02d}"] = panel(frame, self._style)
        values = [_image(tag, picture) for tag, picture in pictures.items()]
        values += [_scalar(tag, value) for tag, value in record.scalars.items()]
        # An event per value keeps each record small, as TensorFlow's own writers do.
        for value in values:
            self._add(record.step, summary=Summary(value=[value]))
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _add(self, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        if self._writer is None:
            self._writer = self._opened()
            self._writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        self._writer.write(Event(wall_time=time.time(), step=step, **content).SerializeToString())

    def _opened(self) -> Any:
        from tensorflow import io

        io.gfile.makedirs(self._directory)
        name = (
            f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}.gradcam"
        )
        return io.TFRecordWriter(os.path.join(self._directory, name))


def _image(tag: str, picture: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.image import metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    height, width = picture.shape[:2]
    content = [str(width).encode(), str(height).encode(), encoded(picture)]
    return Summary.Value(
        tag=tag,
        tensor=make_tensor_proto(content, dtype=None),
        metadata=metadata.create_summary_metadata(display_name=None, description="", converted_to_tensor=None),
    )


def _scalar(tag: str, value: float) -> Any:
    import numpy as np
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.scalar import metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    return Summary.Value(
        tag=tag,
        tensor=make_tensor_proto(np.float32(value)),
        metadata=metadata.create_summary_metadata(display_name="", description=""),
    )
