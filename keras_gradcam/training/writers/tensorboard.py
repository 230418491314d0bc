"""Image, scalar and text summaries for TensorBoard, and the data of its Grad-CAM tab."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...attribution.methods.names import TITLES
from ...drawing.filmstrips import draw_filmstrip
from ...drawing.panels import Frame, cell, overview, panel
from ...drawing.pixels import Style, encoded, no_larger_than_a_cell, relief
from ...errors import ArgumentError
from ...files import is_used_by_another_process, lock_folder, unlock_folder
from ...metrics.statistics import mean_of_present
from ...reid.figures import rank_figure
from ...tensorboard_plugin import metadata
from ...tensorboard_plugin import summary as tab
from ..history import AVERAGED, DRIFT_COLUMNS, EpochRecord
from ..notices import warn
from .base import LogEntry, Run, Summary
from .records import RecordWriter
from .storage import LocalStorage, Storage, storage_of

#: Of what is drawn at every epoch: a JPEG takes a fraction of the time and bytes of a PNG, and looks the same.
QUALITY = 60

# Seconds between two events, at least: TensorBoard and the tab order what was written twice by its time.
_TICK = 1e-6

# Two files opened within one second must not have one name.
_numbers = itertools.count()

# Numbers and pictures are written by different threads, and a record must not be torn by another.
_mutex = threading.Lock()

# The folders that are being written to in this process.
_live: weakref.WeakValueDictionary[str, TensorBoardWriter] = weakref.WeakValueDictionary()


class TensorBoardWriter:
    """Writes an event file of its own in one folder.

    Tags (:mod:`keras_gradcam.tensorboard_plugin.metadata` spells them): ``gradcam/probe_00`` ... and
    ``gradcam/overview``, a scalar per number and probe with its mean, ``gradcam_ranking/query_00`` ... and
    ``gradcam_filters/kernels`` where asked for (all ``gradcam_start...`` before the first epoch),
    ``gradcam_summary/filmstrip_00`` ... and ``gradcam/report`` at the end, and ``gradcam_tab/...`` for the tab.
    Scalars, numbers and maps are in the file when :meth:`write_numbers` returns, pictures when :meth:`write` does; the
    two may run in different threads. Nothing here needs TensorFlow, nor touches the global state of ``tf.summary``
    (default writer, ``record_if``), which belongs to the user.

    A file that can no longer be written to, that was removed or that was replaced is followed by a new one.

    Args:
        directory: The run's folder, or its URL; a sub-run of its own, since two live writers in one folder hide each
            other.
        style: How maps are drawn.
    """

    def __init__(self, directory: str, style: Style | None = None) -> None:
        self._directory = directory
        self._folder = directory if "://" in directory else os.path.abspath(directory)
        self._style = style or Style()
        self._storage: Storage | None = None
        self._records: RecordWriter | None = None
        self._run: Run | None = None
        self._lock: int | None = None
        # The first step of the training, and whether an event file says so.
        self._first: int | None = None
        self._is_begun = False
        # The latest time that was written, and how far it is ahead of a clock that was set back, in seconds.
        self._last_time = self._ahead = 0.0
        # The path of the current file, or of the last.
        self._path: str | None = None

    def prepare(self, run: Run) -> None:
        self.close()
        self._storage = storage_of(self._directory)
        try:
            self._storage.make_folder(self._directory)
            attempt = self._storage.join(self._directory, f".writable-{os.getpid()}-{next(_numbers)}")
            self._storage.create(attempt).close()
            self._storage.remove(attempt)
        except Exception as error:  # each kind of storage has errors of its own
            raise ArgumentError(
                "log_dir", "be a folder that can be written to", f"{self._directory!r} ({error})"
            ) from error
        is_shared = _live.get(self._folder) not in (None, self)
        if isinstance(self._storage, LocalStorage):
            with contextlib.suppress(OSError):  # locked already, or a folder that may be written to but not read
                self._lock = lock_folder(self._directory)
                weakref.finalize(self, unlock_folder, self._lock)
            is_shared = is_shared or is_used_by_another_process(self._directory)
        if is_shared:
            warn(
                f"Another GuidedGradCAMCallback still writes to {self._directory!r}; TensorBoard shows one of the two. "
                "Give each a `log_dir` of its own.",
                stacklevel=5,
            )
        _live[self._folder] = self
        self._run, self._first, self._is_begun = run, None, False

    def write_numbers(self, entry: LogEntry) -> None:
        """Writes scalars, and numbers and maps for the tab."""
        record = entry.record
        has_regions = self._run is not None and any(probe.region is not None for probe in self._run.info.probes)
        scalars = _scalars(record, has_regions, per_probe=self._style.scalars == "probes")
        self._add(record.step, [*(_scalar(tag, value) for tag, value in scalars.items()), *_tab_values(record)])

    def write(self, entry: LogEntry) -> None:
        """Writes pictures."""
        record, start = entry.record, entry.record.is_start
        guided = [picture for picture in map(_guided_picture, entry.frames) if picture is not None]
        if guided:
            self._add(record.step, [tab.guided_summary(guided, start)])
        pictures = self._drawn(entry)
        for ranking in entry.rankings:
            pictures.append(_image(metadata.query_tag(ranking.index, start), rank_figure(ranking, self._style)))
        for name, picture in entry.pictures.items():
            pictures.append(_image(metadata.picture_tag(name, start), picture))
        self._add(record.step, pictures)

    def _drawn(self, entry: LogEntry) -> list[Any]:
        """Draws overview and panels, as far as the style wants them; what they share is drawn once."""
        if self._style.images is None:
            return []
        record, start = entry.record, entry.record.is_start
        cells = [cell(frame, self._style) for frame in entry.frames]
        whole = overview(entry.frames, record.title, self._style, cells)
        pictures = [_image(metadata.overview_tag(start), whole, QUALITY)]
        if self._style.images == "panels":
            for index, (frame, drawn) in enumerate(zip(entry.frames, cells, strict=True)):
                picture = panel(frame, self._style, drawn)
                pictures.append(_image(metadata.probe_tag(index, start), picture, QUALITY))
        return pictures

    def summarize(self, summary: Summary) -> None:
        filmstrips = () if self._style.images is None else summary.filmstrips
        values = [
            _image(metadata.filmstrip_tag(index), draw_filmstrip(filmstrip, self._style), QUALITY)
            for index, filmstrip in enumerate(filmstrips)
        ]
        self._add(summary.step, [*values, _text(metadata.REPORT, summary.report)])

    def close(self) -> None:
        if _live.get(self._folder) is self:
            del _live[self._folder]
        unlock_folder(self._lock)
        self._lock = None
        with _mutex:
            if self._records is not None:
                self._records.close()
                self._records = None

    def _add(self, step: int, values: Iterable[Any]) -> None:
        with _mutex:
            self._first = step if self._first is None else self._first
            is_lost = self._records is not None and not self._records.exists()
            if is_lost:
                self._abandon()
            is_new = self._records is None
            try:
                self._append(step, values)
            except BaseException:  # an interruption too
                # What follows a torn record in a file cannot be read: the next entry begins a new file.
                path = self._abandon()
                if is_new and path is not None:  # a full disk must not gather a file per epoch with nothing in it
                    with contextlib.suppress(Exception):
                        self._storage_of_folder().remove(path)
                raise
            self._is_begun = True
        if is_lost:
            warn(
                f"The event file in {self._directory!r} was removed or replaced while training went on. What it held "
                "is lost; a new file begins here.",
                RuntimeWarning,
            )

    def _abandon(self) -> str | None:
        """Gives the current file up; returns its path."""
        records, self._records = self._records, None
        if records is not None:
            with contextlib.suppress(Exception):
                records.close()
        return self._path

    def _append(self, step: int, values: Iterable[Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary as Values

        if self._records is None:
            self._records = self._create()
            self._records.write(Event(wall_time=self._now(), file_version="brain.Event:2").SerializeToString())
            if not self._is_begun:  # in a later file it would void what this training has written at the same step
                self._records.write(tab.session_start(self._first or 0, self._now()).SerializeToString())
            if self._run is not None:
                self._append(0, [tab.run_summary(self._run.info), *_tab_pictures(self._run)])
        # An event per value keeps each record small, as TensorFlow's own writers do.
        for value in values:
            event = Event(wall_time=self._now(), step=step, summary=Values(value=[value]))
            self._records.write(event.SerializeToString())
        self._records.flush()

    def _create(self) -> RecordWriter:
        """Opens an event file, whose name is unlike any other's and comes after those in the folder."""
        self._path = None
        storage = self._storage_of_folder()
        storage.make_folder(self._directory)
        names = sorted(name for name in storage.names(self._directory) if "tfevents" in name)
        if names:
            with contextlib.suppress(Exception):  # the file may be gone by now
                written = storage.modified(storage.join(self._directory, names[-1]))
                self._last_time = max(self._last_time, written)
        path = storage.join(self._directory, _file_name(int(self._now()), names))
        records = RecordWriter(storage.create(path))
        self._path = path
        return records

    def _storage_of_folder(self) -> Storage:
        return self._storage or storage_of(self._directory)

    def _now(self) -> float:
        """Returns the time in seconds, later than anything in the folder even if the clock was set back."""
        now = time.time() + self._ahead
        if now <= self._last_time:
            self._ahead += self._last_time + _TICK - now
            now = self._last_time + _TICK
        self._last_time = now
        return now


def _file_name(seconds: int, earlier: Sequence[str]) -> str:
    """Returns the name of an event file that is begun now, unlike any other's.

    TensorBoard reads files in the order of their names and never goes back, so that the new name must come last.
    """
    own = f"{socket.gethostname()}.{os.getpid()}.{next(_numbers):06d}.gradcam"
    name = f"events.out.tfevents.{seconds:010d}.{own}"
    last = re.search(r"tfevents\.(\d{1,11})\.", earlier[-1]) if earlier else None
    if last is None or name > earlier[-1]:
        return name
    return f"events.out.tfevents.{int(last[1]) + 1:010d}.{own}"


def _scalars(record: EpochRecord, has_regions: bool, per_probe: bool) -> dict[str, float]:
    """Returns by tag the mean over the probes that have a value, how many have none, and the value of each probe."""
    scalars = {metadata.total_tag(name, record.is_start): value for name, value in record.totals.items()}
    if record.is_start:
        return scalars | {metadata.mean_tag(name, start=True): mean for name, mean in record.means().items()}
    for name in AVERAGED:
        if name in ("mass_inside", "pointing_game") and not has_regions:
            continue
        values = record.column(name)
        mean, missing = mean_of_present(values)
        if record.maps is not None and name in DRIFT_COLUMNS:
            scalars[metadata.missing_tag(name)] = float(missing)
        if missing < len(values):
            scalars[metadata.mean_tag(name)] = mean
        for index in np.flatnonzero(~np.isnan(values)) if per_probe else ():
            scalars[metadata.value_tag(name, int(index))] = float(values[index])
    return scalars


def _tab_pictures(run: Run) -> list[Any]:
    values = [tab.pictures_summary(_encoded(run.pictures))]
    if run.partner_pictures is not None:
        values.append(tab.partners_summary(_encoded(run.partner_pictures)))
    return values


def _encoded(pictures: Sequence[np.ndarray] | np.ndarray) -> list[bytes]:
    return [encoded(picture) for picture in pictures]


def _tab_values(record: EpochRecord) -> list[Any]:
    values = [tab.numbers_summary(record.numbers, record.is_start)]
    if record.maps is not None:
        values.append(tab.maps_summary(record.maps, record.is_start))
    if record.partner_maps is not None:
        values.append(tab.partner_maps_summary(record.partner_maps, record.is_start))
    return values


def _guided_picture(frame: Frame) -> bytes | None:
    """Encodes guided Grad-CAM of one probe, or else its first gradient, small: the tab keeps it for every epoch."""
    gradient = frame.gradients.get(TITLES["guided_gradcam"], next(iter(frame.gradients.values()), None))
    if gradient is None:
        return None
    return encoded(no_larger_than_a_cell(relief(gradient)[None])[0], quality=QUALITY)


def _image(tag: str, picture: np.ndarray, quality: int | None = None) -> Any:
    from tensorboard.plugins.image import metadata

    height, width = picture.shape[:2]
    content = np.array([str(width).encode(), str(height).encode(), encoded(picture, quality)], dtype=object)
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
