"""Work on a thread of its own: order, backpressure and errors."""

from __future__ import annotations

import threading

import pytest
from log_entries import RUN, entry

from keras_gradcam.training.writers.background import BackgroundWriter


class Recording:
    def __init__(self):
        self.seen, self.threads, self.gate = [], set(), threading.Event()

    def prepare(self, run):
        self.seen.append("prepare")

    def write(self, entry):
        self.gate.wait(10)
        self.threads.add(threading.get_ident())
        if entry.record.step == 13:
            raise OSError("unlucky")
        self.seen.append(entry.record.step)

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


def test_an_error_is_raised_at_the_next_call_and_the_writer_goes_on():
    inner = Recording()
    writer = BackgroundWriter(inner)
    writer.write(entry(13))
    inner.gate.set()
    with pytest.raises(OSError, match="unlucky"):
        writer.close()
    writer.write(entry(14))
    writer.close()
    assert inner.seen == ["close", 14, "close"]


def test_the_next_training_begins_once_what_an_interrupted_one_left_is_written():
    inner = Recording()
    writer = BackgroundWriter(inner)
    writer.write(entry(1))
    threading.Timer(0.2, inner.gate.set).start()
    writer.prepare(RUN)
    assert inner.seen == [1, "prepare"]
    writer.close()


def test_it_is_named_by_the_writer_that_does_the_work():
    assert BackgroundWriter(Recording()).name == "Recording"


def test_what_would_end_a_program_ends_the_entry_alone():
    class Exits(Recording):
        def write(self, entry):
            raise SystemExit(3)

    writer = BackgroundWriter(Exits())

    def written():
        writer.write(entry(0))
        writer.close()

    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        written()
    writer.close()


def test_pictures_are_written_where_numbers_cannot_be():
    class NoNumbers(Recording):
        def write_numbers(self, entry):
            raise OSError("no numbers")

    inner = NoNumbers()
    inner.gate.set()
    writer = BackgroundWriter(inner)
    with pytest.raises(OSError, match="no numbers"):
        writer.write(entry(0))
    writer.close()
    assert inner.seen == [0, "close"]
