"""Trainings in which writing fails at random: the weights, the warnings, and what can be read afterwards."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from robustness.outcomes import Outcomes
from tab_server import Server

from keras_gradcam import GuidedGradCAMCallback, Probe, Style
from keras_gradcam.tensorboard_plugin.reader import START
from keras_gradcam.training.event_files import find_event_files, read_events, select_run
from keras_gradcam.training.writers import tensorboard

_EPOCHS = 4


def trained(callbacks: list[Any], epochs: int = _EPOCHS) -> list[np.ndarray]:
    """Trains a small network from the same beginning; returns its weights and those of its optimizer."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images, labels = rng.random((12, 10, 10, 3)).astype("float32"), np.arange(12) % 3
    model = keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(images, labels, epochs=epochs, batch_size=4, verbose=0, callbacks=callbacks)
    return [*model.get_weights(), *(variable.numpy() for variable in model.optimizer.variables)]


def probe() -> tuple[np.ndarray, np.ndarray]:
    """The pictures that are explained."""
    return np.random.default_rng(1).random((3, 10, 10, 3)).astype("float32"), np.arange(3)


class _Faults:
    """Fails some of the operations of a training, by a schedule that a seed decides.

    Attributes:
        happened: What failed, in order.
        lost: Whether the folder was removed or replaced.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self._rng, self._folder = np.random.default_rng(seed), folder
        self._rate = float(self._rng.choice([0.02, 0.1, 0.4]))
        self._full_after = int(self._rng.integers(1, 400)) if self._rng.random() < 0.2 else None
        self._calls = 0
        self.happened: list[str] = []
        self.lost = False

    def on_write(self, write: Callable[..., int]) -> Callable[..., int]:
        """Tears writes: the disk is full for a moment, or from some moment on."""

        def faulty(descriptor: int, content: Any) -> int:
            name = os.readlink(f"/proc/self/fd/{descriptor}") if sys.platform == "linux" else ""
            if "tfevents" not in name:
                return write(descriptor, content)
            self._calls += 1
            is_full = self._full_after is not None and self._calls > self._full_after
            if is_full or self._rng.random() < self._rate / 10:
                self.happened.append("write")
                write(descriptor, bytes(content)[: int(self._rng.integers(0, 40))])
                raise OSError(28, "No space left on device")
            return write(descriptor, content)

        return faulty

    def on_call(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Makes calls of a function fail, by any kind of exception."""

        def faulty(*args: Any, **kwargs: Any) -> Any:
            if self._rng.random() < self._rate:
                self.happened.append(name)
                kinds = [OSError, ValueError, MemoryError, RuntimeError]
                if threading.current_thread() is not threading.main_thread():  # there it would end any program
                    kinds.append(SystemExit)
                raise kinds[int(self._rng.integers(len(kinds)))](name)
            return function(*args, **kwargs)

        return faulty

    def on_folder(self) -> None:
        """Removes or replaces the folder between two epochs."""
        if self._rng.random() < self._rate / 4 and self._folder.exists():
            self.happened.append("folder")
            self.lost = True
            shutil.rmtree(self._folder.rename(self._folder.with_name("gone")))
            if self._rng.random() < 0.5:
                self._folder.mkdir(parents=True, exist_ok=True)  # the callback may have made it again

    @contextmanager
    def at_work(self) -> Any:
        """Puts the faults in place."""
        draw, encode, write = tensorboard.panel, tensorboard.encoded, os.write
        tensorboard.panel = self.on_call("draw", draw)
        tensorboard.encoded = self.on_call("encode", encode)
        os.write = self.on_write(write)
        try:
            yield
        finally:
            tensorboard.panel, tensorboard.encoded, os.write = draw, encode, write


class _Between(keras.callbacks.Callback):
    def __init__(self, faults: _Faults) -> None:
        super().__init__()
        self._faults = faults

    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            self._faults.on_folder()


class _Recorded:
    """Notes for which epochs numbers were written without an error."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def wrap(self, write: Callable[..., None]) -> Callable[..., None]:
        def noted(writer: Any, entry: Any) -> None:
            write(writer, entry)
            self.epochs.append(START if entry.record.is_start else entry.record.epoch)

        return noted


def attempt(folder: Path, schedules: int, first_seed: int = 0, served: int = 25) -> Outcomes:
    """Trains with one schedule of faults after another.

    Args:
        folder: An empty folder.
        schedules: How many.
        first_seed: That of the first schedule.
        served: Every so many trainings are read by both of TensorBoard's loaders too, which takes a second.
    """
    outcomes = Outcomes("schedules of faults in a training")
    expected = trained([])
    for seed in range(first_seed, first_seed + schedules):
        problem, how = _one(folder / f"{seed:04d}", seed, expected, seed % served == 0)
        if problem:
            outcomes.lost(f"seed {seed}: {problem}")
        else:
            outcomes.survived(how)
    return outcomes


def _one(folder: Path, seed: int, expected: list[np.ndarray], is_served: bool) -> tuple[str | None, str]:
    log_dir = folder / "gradcam"
    faults, recorded = _Faults(seed, log_dir), _Recorded()
    callback = GuidedGradCAMCallback(Probe(probe()), folder, style=Style(scalars="means"))
    write_numbers = tensorboard.TensorBoardWriter.write_numbers
    tensorboard.TensorBoardWriter.write_numbers = recorded.wrap(write_numbers)
    try:
        with warnings.catch_warnings(record=True) as caught, faults.at_work():
            warnings.simplefilter("always")
            weights = trained([_Between(faults), callback])
    except BaseException as error:
        return f"the training ended by {type(error).__name__}: {error}", ""
    finally:
        tensorboard.TensorBoardWriter.write_numbers = write_numbers
    if not all(map(np.array_equal, weights, expected)):
        return "other weights", ""
    texts = [str(warning.message) for warning in caught]
    said = [text for text in texts if "could not" in text or "was removed" in text]
    failures = [text for text in said if "could not" in text]
    if len(failures) > 1:
        return f"{len(failures)} warnings of failures", ""
    if faults.happened and not said:
        return f"no warning of {faults.happened}", ""
    if not faults.lost:
        problem = _unreadable(log_dir, recorded.epochs, is_served)
        if problem:
            return problem, ""
    return None, "completed, all that was written is read" if not faults.lost else "completed, the folder was removed"


def _unreadable(log_dir: Path, epochs: list[int], is_served: bool) -> str | None:
    """Says which epochs that were written cannot be read back."""
    if not epochs:
        return None
    files = find_event_files(str(log_dir))[str(log_dir)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = select_run(read_events(str(log_dir), files))
    found = [] if run is None else [epoch.step for epoch in run.epochs]
    wanted = [epoch for epoch in epochs if epoch != START]
    if found != wanted and wanted:
        return f"History.load finds {found} of {wanted}"
    for loader in ("fast", "slow") if is_served else ():
        server = Server(log_dir.parent, loader)
        try:
            last = wanted[-1] if wanted else None
            server.wait_for(lambda server, last=last: server.runs().get("gradcam", {}).get("last_epoch", -2) == last)
            series, unreadable = server.series("/maps", "gradcam")
            if list(series) != sorted(epochs) or unreadable:
                return f"the {loader} loader finds {list(series)} of {sorted(epochs)}"
        finally:
            server.close()
    return None
