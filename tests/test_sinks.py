"""Sinks: order, errors and files."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_gradcam.history import Recorder
from keras_gradcam.panels import Film, Frame
from keras_gradcam.sinks.background import BackgroundSink
from keras_gradcam.sinks.base import Record, Run, Summary
from keras_gradcam.sinks.files import FileSink
from keras_gradcam.sinks.tensorboard import TensorBoardSink

RUN = Run(np.zeros((1, 300, 200, 3), np.uint8), (300, 200), "conv", "Class()", ("gradcam",))


def record(epoch):
    moment = Recorder().add(epoch, np.eye(2)[None], {"score": np.ones(1)})
    frame = Frame(
        np.zeros((8, 8, 3), np.uint8), gradcam=np.eye(2), top=1.0, gradients={"guided Grad-CAM": np.ones((8, 8, 3))}
    )
    return Record(moment, (frame,), "title", {"gradcam_score/mean": float(epoch or 0)})


class Recording:
    def __init__(self):
        self.seen, self.threads, self.gate = [], set(), threading.Event()

    def prepare(self, run):
        self.seen.append("prepare")

    def write(self, record):
        self.gate.wait(10)
        self.threads.add(threading.get_ident())
        if record.step == 13:
            raise OSError("unlucky")
        self.seen.append(record.step)

    def summarize(self, summary):
        self.seen.append("summary")

    def close(self):
        self.seen.append("close")


def test_work_is_done_in_order_on_another_thread():
    inner = Recording()
    sink = BackgroundSink(inner)
    sink.prepare(RUN)
    inner.gate.set()
    for epoch in range(20, 30):
        sink.write(record(epoch))
    sink.summarize(None)
    sink.close()
    assert inner.seen == ["prepare", *range(20, 30), "summary", "close"]
    assert inner.threads
    assert threading.get_ident() not in inner.threads


def test_records_do_not_pile_up():
    inner = Recording()
    sink = BackgroundSink(inner)
    sink.write(record(0))
    sink.write(record(1))
    waiting = threading.Thread(target=sink.write, args=(record(2),))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()  # a third one waits until the first is written
    inner.gate.set()
    waiting.join(10)
    sink.close()
    assert inner.seen == [0, 1, 2, "close"]


def test_an_error_is_raised_at_the_next_call_and_the_sink_goes_on():
    inner = Recording()
    sink = BackgroundSink(inner)
    sink.write(record(13))
    inner.gate.set()
    with pytest.raises(OSError, match="unlucky"):
        sink.close()
    sink.write(record(14))
    sink.close()
    assert inner.seen == ["close", 14, "close"]


def test_the_event_file_is_complete_after_every_write(tmp_path):
    sink = TensorBoardSink(str(tmp_path))
    sink.prepare(RUN)
    assert list(tmp_path.iterdir()) == []  # nothing is opened before there is something to write
    for epoch in (None, 0, 1):
        sink.write(record(epoch))
        accumulator = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
        accumulator.Reload()
        tag = "gradcam_start/overview" if epoch is None else "gradcam/overview"
        assert accumulator.Tensors(tag)[-1].step == (epoch or 0)
    sink.close()
    assert len(list(tmp_path.iterdir())) == 1


def test_after_a_torn_record_a_new_file_begins(tmp_path, monkeypatch):
    sink = TensorBoardSink(str(tmp_path))
    sink.prepare(RUN)
    sink.write(record(0))

    class Full:
        def write(self, content):
            raise OSError("no space left")

    monkeypatch.setattr(sink, "_writer", Full())
    with pytest.raises(OSError, match="no space"):
        sink.write(record(1))
    sink.write(record(2))
    sink.close()
    assert len(list(tmp_path.iterdir())) == 2
    accumulator = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    accumulator.Reload()
    assert [event.step for event in accumulator.Tensors("gradcam/overview")] == [0, 2]


def test_what_cannot_be_drawn_does_not_take_the_numbers_along(tmp_path):
    good = record(0)
    sink = TensorBoardSink(str(tmp_path))
    sink.prepare(RUN)
    with pytest.raises(TypeError):
        sink.write(Record(good.moment, (replace(good.frames[0], caption=(None,)),), "title", good.scalars))
    sink.close()
    accumulator = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    accumulator.Reload()
    assert "gradcam_score/mean" in accumulator.Tags()["tensors"]


def test_the_folder_of_files_is_what_the_manifest_says(tmp_path):
    recorder = Recorder()
    recorder.add(None, np.eye(2)[None], {"score": np.ones(1)})
    recorder.add(3, np.eye(2)[None] * 2, {"score": np.ones(1)})
    frame = record(3).frames[0]
    film = Film((frame, frame), (("a",), ("b",)), (np.nan, 1.0))
    sink = FileSink(str(tmp_path / "new"))
    sink.prepare(RUN)
    sink.write(record(3))
    assert not (tmp_path / "new" / "manifest.json").exists()
    sink.summarize(Summary(3, recorder.history(), (film,), "# report"))
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
    assert manifest["epochs"] == [3]
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"manifest.json", *manifest["files"]}
    with np.load(tmp_path / "new" / "run.npz") as stored:
        np.testing.assert_array_equal(stored["maps"], np.eye(2)[None, None] * 2)
        np.testing.assert_array_equal(stored["start_maps"], np.eye(2)[None])
