"""Threads that are held inside a model while it is traced, and a layer that counts its calls."""

from __future__ import annotations

import contextlib
import threading
import time

import keras
from keras import layers as L  # noqa: N812
from models import CLASSES, SIZE, named, randomised


class Count(L.Layer):
    """Counts its calls in a variable."""

    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, inputs):
        self.count.assign_add(1.0)
        return inputs


class Gate(L.Layer):
    """Runs a function of the test's whenever it is called."""

    visit = staticmethod(lambda: None)

    def call(self, inputs):
        Gate.visit()
        return inputs * 1.0


@contextlib.contextmanager
def gated_model():
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(4, 3, activation="relu", name="conv")(Count(name="count")(Gate()(inputs)))
    model = randomised(keras.Model(inputs, L.Dense(CLASSES, name="dense")(L.GlobalAveragePooling2D()(x))))
    named(model, "count").count.assign(0.0)
    yield model
    Gate.visit = staticmethod(lambda: None)


class Worker(threading.Thread):
    """A thread whose result or error is handed back by `result()`."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self._work, self._result, self._error = work, None, None
        self.start()

    def run(self):
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error

    def result(self):
        self.join(60)
        assert not self.is_alive(), "the thread hangs"
        if self._error:
            raise self._error
        return self._result


@contextlib.contextmanager
def held_while_tracing(work):
    """Runs ``work``, which traces a model with a `Gate`, in a thread that is held inside that layer's call.

    Yields the worker; it goes on when the context ends, or when ``worker.release`` is set.
    """
    inside, release, owner = threading.Event(), threading.Event(), []

    def visit():
        if threading.get_ident() == owner[0] and not inside.is_set():
            inside.set()
            release.wait(30)

    def start():
        owner.append(threading.get_ident())
        Gate.visit = staticmethod(visit)
        return work()

    worker = Worker(start)
    worker.release = release
    try:
        assert inside.wait(30), "the layer is never called"
        yield worker
    finally:
        release.set()
        worker.join(60)
        Gate.visit = staticmethod(lambda: None)


@contextlib.contextmanager
def two_traces(first, second):
    """``second`` starts while ``first`` is in its trace, and comes as far as it can before ``first`` goes on."""
    with held_while_tracing(first) as one:
        started = threading.Event()

        def work():
            started.set()
            return second()

        two = Worker(work)
        assert started.wait(30)
        time.sleep(0.3)
        one.release.set()
        yield one, two
