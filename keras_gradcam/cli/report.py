"""``keras-gradcam report``: how attention moved during a training, out of its event files."""

from __future__ import annotations

import argparse
import os

from ..training.event_files import event_files, joined_report, read_events
from .console import import_keras, tell
from .errors import CommandError


def run(options: argparse.Namespace) -> int:
    """Prints reports; returns the exit code."""
    if not os.path.isdir(options.logdir):
        raise CommandError(f"LOGDIR must be a folder. Received: {options.logdir!r}.")
    import_keras()  # TensorBoard reads with TensorFlow where there is one, which is loud when it starts
    reports = {}
    for folder, files in event_files(options.logdir).items():
        data = read_events(folder, files)
        text = joined_report(data)
        if text is not None:
            reports[os.path.relpath(folder, options.logdir)] = text
    if not reports:
        raise CommandError(
            f"no training was logged by GuidedGradCAMCallback in {options.logdir!r}. "
            "Candidates: the log_dir that it was given."
        )
    for name, text in sorted(reports.items()):
        tell(f"# {name}\n\n{text}" if len(reports) > 1 else text)
    return 0
