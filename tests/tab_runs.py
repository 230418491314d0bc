"""Writes runs as the callback would, from made-up maps: fast, and without a model."""

from __future__ import annotations

import io
import itertools
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from keras_gradcam.tensorboard_plugin import summary
from keras_gradcam.tensorboard_plugin.columns import COLUMNS
from keras_gradcam.tensorboard_plugin.metadata import ExplainedInfo, ProbeInfo, RunInfo
from keras_gradcam.training.history import compact

NAMES = {0: "cat", 1: "dog", 2: "horse"}
_numbers = itertools.count()


class RunWriter:
    """An event file that is written bit by bit and may be left without an end."""

    def __init__(self, directory, begin=0, session=True):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.host.{next(_numbers):05d}.gradcam"
        self.path = self.directory / name
        self._file = self.path.open("wb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if session:
            self._write(summary.session_start(begin, time.time()))

    def add(self, step, *values, wall_time=None):
        for value in values:
            self._write(Event(wall_time=wall_time or time.time(), step=step, summary=Summary(value=[value])))

    def _write(self, event):
        self._records.write(event.SerializeToString())
        self._file.flush()

    def close(self):
        self._file.close()


def png(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    return buffer.getvalue()


def _jpeg(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "jpeg", quality=60)
    return buffer.getvalue()


def picture(number, size=(96, 96)):
    """A smooth coloured background with a disc somewhere, the same for every run."""
    rng = np.random.default_rng(number)
    height, width = size
    y, x = np.mgrid[0:height, 0:width] / max(size)
    base = np.stack([0.5 + 0.3 * np.sin(6 * (x * a + y * b) + c) for a, b, c in rng.uniform(-1, 1, (3, 3)) * 2], -1)
    base += rng.normal(0, 0.03, base.shape)
    cx, cy = rng.uniform(0.25, 0.75, 2)
    base[(x - cx) ** 2 + (y - cy) ** 2 < 0.02] = rng.uniform(0.1, 0.9, 3)
    return (np.clip(base, 0, 1) * 255).astype(np.uint8)


def partner(number, size=(96, 96)):
    """Another picture for every probe."""
    return picture(1000 + number, size)


def blob_map(center, grid, strength=1.0, width=0.18):
    y, x = (np.mgrid[0 : grid[0], 0 : grid[1]] + 0.5) / np.array(grid)[:, None, None]
    bump = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * width**2))
    return np.maximum(strength * (bump - 0.05), 0)


def moving_maps(epochs, probes, grid=(14, 14), seed=0):
    """(epochs + 1, probes, h, w): from a corner to the middle, most of the way between a third and a half."""
    rng = np.random.default_rng(seed)
    ends = rng.uniform(0.3, 0.7, (probes, 2))
    maps = np.zeros((epochs + 1, probes, *grid))
    for step, probe in itertools.product(range(epochs + 1), range(probes)):
        share = 1 / (1 + np.exp(-((step / max(epochs, 1)) - 0.4) * 20))
        center = (1 - share) * np.array([0.15, 0.85]) + share * ends[probe] + rng.normal(0, 0.01, 2)
        maps[step, probe] = blob_map(center, grid, 0.5 + 2 * share)
    return maps


def numbers_for(maps, previous, first, label, epoch, classes=3, regions=False, spread=1):
    """(N, columns) with a prediction that is wrong at first; with no classes only minus a distance."""
    rows = []
    for probe in range(len(maps)):
        right = epoch >= 3 + probe % 5 and probe % 7 != 6
        probability = min(0.35 + 0.02 * epoch, 0.98) if classes else np.nan
        values = {
            "score": 0.1 * epoch + probe if classes else -(0.5 + spread * (0.03 * epoch + 0.01 * probe)),
            "probability": probability,
            "confidence": probability,
            "predicted": (label[probe] + (not right)) % classes if classes else np.nan,
            "explained": label[probe] if classes else np.nan,
            "similarity_previous": _correlation(maps[probe], previous[probe]) if previous is not None else np.nan,
            "similarity_first": _correlation(maps[probe], first[probe]) if first is not None else np.nan,
            "center_shift": 0.01,
            "focus": 0.2,
            "mass": maps[probe].sum(),
            "mass_inside": min(0.1 + 0.02 * epoch, 0.9) if regions else np.nan,
            "pointing_game": float(right) if regions else np.nan,
        }
        rows.append([values[column] for column in COLUMNS])
    return np.array(rows, np.float32)


def _correlation(a, b):
    if a.shape != b.shape or not np.isfinite([a, b]).all() or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def run_info(probes=4, size=(96, 96), names=NAMES, regions=False, labels=None, quantity=("score", 1.0), **options):
    labels = [number % 3 for number in range(probes)] if labels is None else labels
    box = (24.0, 24.0, 72.0, 80.0) if regions else None
    return RunInfo(
        input_size=size,
        probes=tuple(ProbeInfo(label, box) for label in labels),
        explained=ExplainedInfo("block5_conv", "Class()", quantity, ("gradcam", "guided_gradcam")),
        class_names=names,
        **options,
    )


def write_run(
    directory, epochs=6, probes=4, grid=(14, 14), size=(96, 96), guided=True, start=True, seed=0, begin=0, maps=None,
    close=True, session=True, classes=3, partner_maps=None, partner_size=(96, 96), torn=(), spread=1, first_picture=0,
    forget_first=False, **options,
):  # fmt: skip
    """A whole run; returns its maps, (epochs + 1, N, h, w), the start first.

    With `partner_maps`, likewise, the probes are pairs; in the epochs `torn` the writing ended before the partners'.
    """
    maps = moving_maps(epochs, probes, grid, seed) if maps is None else maps
    info = run_info(probes, size, pairs=partner_maps is not None, **options)
    label = [0 if probe.label is None else probe.label for probe in info.probes]
    regions = info.probes[0].region is not None if info.probes else False
    writer = RunWriter(directory, begin, session)
    writer.add(0, summary.run_summary(info))
    writer.add(0, summary.pictures_summary([png(picture(first_picture + number, size)) for number in range(probes)]))
    if partner_maps is not None:
        writer.add(0, summary.partners_summary([png(partner(number, partner_size)) for number in range(probes)]))
    if start:
        numbers = numbers_for(maps[0], None, None, label, 0, classes, regions, spread)
        writer.add(0, summary.maps_summary(compact(maps[0]), start=True), summary.numbers_summary(numbers, start=True))
        if partner_maps is not None:
            writer.add(0, summary.partner_maps_summary(compact(partner_maps[0]), start=True))
        if guided:
            writer.add(0, summary.guided_summary(guided_pictures(maps[0], size), start=True))
    for epoch in range(begin, len(maps) - 1):
        now, before = maps[epoch + 1], maps[epoch]
        numbers = numbers_for(
            now, before if epoch else None, None if forget_first else maps[1], label, epoch, classes, regions, spread
        )
        writer.add(epoch, summary.maps_summary(compact(now)), summary.numbers_summary(numbers))
        if partner_maps is not None and epoch not in torn:
            writer.add(epoch, summary.partner_maps_summary(compact(partner_maps[epoch + 1])))
        if guided:
            writer.add(epoch, summary.guided_summary(guided_pictures(now, size)))
    if close:
        writer.close()
        return maps
    return maps, writer


def guided_pictures(maps, size=(96, 96)):
    """Grey pictures whose brightness tells the map apart."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (*size, 3))
    large = [
        np.asarray(Image.fromarray(one.astype(np.float32)).resize(size[::-1])) for one in np.nan_to_num(maps, posinf=0)
    ]
    return [_jpeg(np.clip(128 + 60 * noise * one[..., None], 0, 255).astype(np.uint8)) for one in large]
