"""``keras-gradcam tensorboard``: starts TensorBoard so that it keeps every epoch."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from .console import print_message
from .errors import INTERRUPTED

_SAMPLES = "--samples_per_plugin"


def run(options: argparse.Namespace) -> int:
    """Runs TensorBoard until it ends; returns its exit code."""
    if "://" not in options.logdir and not os.path.isdir(options.logdir):
        print_message(f"warning: there is no folder {options.logdir!r} yet; TensorBoard waits for it.")
    words = command(options.logdir, options.passed_on)
    if os.name == "posix":  # TensorBoard takes our place, so that signals reach it
        sys.stdout.flush()
        os.execv(words[0], words)
    try:
        return subprocess.call(words)
    except KeyboardInterrupt:
        return INTERRUPTED


def command(logdir: str, passed_on: list[str]) -> list[str]:
    """Returns the command line that starts TensorBoard.

    Args:
        logdir: The folder of event files.
        passed_on: Arguments of TensorBoard's own; the number of samples it keeps may be among them.

    Example:
        >>> command("logs", ["--port", "6007"])[1:]
        ['-m', 'tensorboard.main', '--logdir', 'logs', '--samples_per_plugin', 'images=1000', '--port', '6007']
    """
    samples = [] if any(word.split("=")[0] == _SAMPLES for word in passed_on) else [_SAMPLES, "images=1000"]
    return [sys.executable, "-m", "tensorboard.main", "--logdir", logdir, *samples, *passed_on]
