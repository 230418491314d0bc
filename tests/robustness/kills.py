"""Trainings that are killed at random moments: what their event files hold, and how they go on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

from robustness.outcomes import Outcomes

from keras_gradcam.training.event_files import find_event_files, read_events, select_run

_PROGRAM = """
import sys, keras
sys.path[:0] = sys.argv[3:]
from robustness.fault_schedules import probe, trained
from keras_gradcam import GuidedGradCAMCallback

class Said(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        print(epoch, flush=True)

trained([GuidedGradCAMCallback(probe(), sys.argv[1]), Said()], epochs=int(sys.argv[2]))
"""


def attempt(folder: Path, kills: int, seed: int = 0, epochs: int = 40) -> Outcomes:
    """Kills one training after another with SIGKILL.

    Args:
        folder: An empty folder.
        kills: How many.
        seed: Decides after how many epochs, and how long after the end of one.
        epochs: More than a training reaches.
    """
    rng = random.Random(seed)
    outcomes = Outcomes("trainings killed with SIGKILL")
    for number in range(kills):
        log_dir = folder / f"{number:03d}"
        said = _killed(log_dir, epochs, rng.randrange(1, 12), rng.random() * 0.05)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (where, files), *_ = find_event_files(str(log_dir)).items()
            run = select_run(read_events(where, files))
        found = [] if run is None else [epoch.step for epoch in run.epochs]
        if found[: len(said)] != said:
            outcomes.lost(f"kill {number}: {said} had ended, {found} are read")
        elif any(epoch.maps is None for epoch in run.epochs[: len(said)]):
            outcomes.lost(f"kill {number}: maps are missing")
        else:
            outcomes.survived("every epoch that had ended is read, with its maps")
    return outcomes


def _killed(log_dir: Path, epochs: int, after: int, delay: float) -> list[int]:
    """Returns the epochs that had ended, the callback's work included, when the training was killed."""
    paths = [path for path in sys.path if path]
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(log_dir), str(epochs), *paths],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert process.stdout is not None
    said: list[int] = []
    for line in process.stdout:
        said.append(int(line))
        if len(said) >= after:
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            break
    rest, _ = process.communicate()
    return [*said, *map(int, rest.split())]
