"""Writers: order, errors and files."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_gradcam.drawing.panels import Filmstrip, Frame
from keras_gradcam.training.history import Recorder
from keras_gradcam.training.writers.background import BackgroundWriter
from keras_gradcam.training.writers.base import LogEntry, Run, Summary
from keras_gradcam.training.writers.folder import FolderWriter
from keras_gradcam.training.writers.tensorboard import TensorBoardWriter

RUN = Run(np.zeros((1, 300, 200, 3), np.uint8), (300, 200), "conv", "Class()", ("gradcam",))


def entry(epoch):
    record = Recorder().add(epoch, np.eye(2)[None], {"score": np.ones(1)})
    frame = Frame(
        np.zeros((8, 8, 3), np.uint8), gradcam=np.eye(2), vmax=1.0, gradients={"guided Grad-CAM": np.ones((8, 8, 3))}
    )
    return LogEntry(record, (frame,), "title", {"gradcam_score/mean": float(epoch or 0)})


class Recording:
    def __init__(self):
        self.seen, self.threads, self.gate = [], set(), threading.Event()

    def prepare(self, run):
        self.seen.append("prepare")

    def write(self, entry):
        self.gate.wait(10)
        self.threads.add(threading.get_ident())
        if entry.step == 13:
            raise OSError("unlucky")
        self.seen.append(entry.step)

    def summarize(self, summary):
        self.seen.append("summary")

    def close(self):
        self.seen.append("close")


def test_work_is_done_in_order_on_another_thread():
    inner = Recording()
    writer = BackgroundWriter(inner)
    writer.prepare(RUN)
    inner.gate.set()
    for epoch in range(20, 30):
        writer.write(entry(epoch))
    writer.summarize(None)
    writer.close()
    assert inner.seen == ["prepare", *range(20, 30), "summary", "close"]
    assert inner.threads
    assert threading.get_ident() not in inner.threads


def test_records_do_not_pile_up():
    inner = Recording()
    writer = BackgroundWriter(inner)
    writer.write(entry(0))
    writer.write(entry(1))
    waiting = threading.Thread(target=writer.write, args=(entry(2),))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()  # a third one waits until the first is written
    inner.gate.set()
    waiting.join(10)
    writer.close()
    assert inner.seen == [0, 1, 2, "close"]


def test_an_error_is_raised_at_the_next_call_and_the_sink_goes_on():
    inner = Recording()
    writer = BackgroundWriter(inner)
    writer.write(entry(13))
    inner.gate.set()
    with pytest.raises(OSError, match="unlucky"):
        writer.close()
    writer.write(entry(14))
    writer.close()
    assert inner.seen == ["close", 14, "close"]


def test_the_event_file_is_complete_after_every_write(tmp_path):
    writer = TensorBoardWriter(str(tmp_path))
    writer.prepare(RUN)
    assert list(tmp_path.iterdir()) == []  # nothing is opened before there is something to write
    for epoch in (None, 0, 1):
        writer.write(entry(epoch))
        accumulator = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
        accumulator.Reload()
        tag = "gradcam_start/overview" if epoch is None else "gradcam/overview"
        assert accumulator.Tensors(tag)[-1].step == (epoch or 0)
    writer.close()
    assert len(list(tmp_path.iterdir())) == 1


def test_after_a_torn_record_a_new_file_begins(tmp_path, monkeypatch):
    writer = TensorBoardWriter(str(tmp_path))
    writer.prepare(RUN)
    writer.write(entry(0))

    class Full:
        def write(self, content):
            raise OSError("no space left")

    monkeypatch.setattr(writer, "_event_writer", Full())
    with pytest.raises(OSError, match="no space"):
        writer.write(entry(1))
    writer.write(entry(2))
    writer.close()
    assert len(list(tmp_path.iterdir())) == 2
    accumulator = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    accumulator.Reload()
    assert [event.step for event in accumulator.Tensors("gradcam/overview")] == [0, 2]


def test_what_cannot_be_drawn_does_not_take_the_numbers_along(tmp_path):
    good = entry(0)
    writer = TensorBoardWriter(str(tmp_path))
    writer.prepare(RUN)
    with pytest.raises(TypeError):
        writer.write(LogEntry(good.record, (replace(good.frames[0], caption=(None,)),), "title", good.scalars))
    writer.close()
    accumulator = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    accumulator.Reload()
    assert "gradcam_score/mean" in accumulator.Tags()["tensors"]


def test_the_folder_of_files_is_what_the_manifest_says(tmp_path):
    recorder = Recorder()
    recorder.add(None, np.eye(2)[None], {"score": np.ones(1)})
    recorder.add(3, np.eye(2)[None] * 2, {"score": np.ones(1)})
    frame = entry(3).frames[0]
    filmstrip = Filmstrip((frame, frame), (("a",), ("b",)), (np.nan, 1.0))
    writer = FolderWriter(str(tmp_path / "new"))
    writer.prepare(RUN)
    writer.write(entry(3))
    assert not (tmp_path / "new" / "manifest.json").exists()
    writer.summarize(Summary(3, recorder.history(), (filmstrip,), "# report"))
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
    assert manifest["epochs"] == [3]
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"manifest.json", *manifest["files"]}
    with np.load(tmp_path / "new" / "run.npz") as stored:
        np.testing.assert_array_equal(stored["maps"], np.eye(2)[None, None] * 2)
        np.testing.assert_array_equal(stored["start_maps"], np.eye(2)[None])
