"""``keras-gradcam tensorboard``: starts TensorBoard so that it keeps every epoch."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import subprocess
import sys

from .errors import INTERRUPTED, CommandError

_SAMPLES = "--samples_per_plugin"


def run(options: argparse.Namespace) -> int:
    """Runs TensorBoard until it ends; returns its exit code."""
    if "://" not in options.logdir and not os.path.isdir(options.logdir):
        raise CommandError(
            f"LOGDIR must be a folder of event files. Received: {options.logdir!r}, which is not there. Candidates: "
            "the `log_dir` of a GuidedGradCAMCallback, once its training has begun."
        )
    _check_that_it_starts()
    words = command(options.logdir, options.passed_on)
    if os.name == "posix":  # TensorBoard takes our place, so that signals reach it
        sys.stdout.flush()
        os.execv(words[0], words)
    try:
        return subprocess.call(words)
    except KeyboardInterrupt:
        return INTERRUPTED


def _check_that_it_starts() -> None:
    """Raises CommandError if TensorBoard cannot start: up to 2.20 it imports a module that setuptools has given up."""
    release = tuple(int(part) for part in importlib.metadata.version("tensorboard").split(".")[:2])
    if release <= (2, 20) and importlib.util.find_spec("pkg_resources") is None:
        raise CommandError(
            f"TensorBoard {'.'.join(map(str, release))} needs `pkg_resources`, which the installed setuptools no "
            "longer has. Candidates: pip install 'setuptools<81', or a newer TensorFlow."
        )


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
