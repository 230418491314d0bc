"""``keras-gradcam report``: how attention moved during a training, read from its event files."""

from __future__ import annotations

import argparse
import os

from ..errors import in_one_line
from ..training.event_files import find_event_files, read_events
from ..training.report import logged_report
from .console import print_message, print_result
from .errors import SOME_FAILED, CommandError


def run(options: argparse.Namespace) -> int:
    """Prints reports; returns the exit code."""
    if not os.path.isdir(options.logdir):
        raise CommandError(f"LOGDIR must be a folder. Received: {options.logdir!r}.")
    reports, failed = {}, 0
    for folder, files in find_event_files(options.logdir).items():
        try:
            text = logged_report(read_events(folder, files))
        except Exception as error:  # one damaged run must not take the reports of the others along
            print_message(f"{folder!r} cannot be read: {in_one_line(error)}")
            failed += 1
            continue
        if text is not None:
            reports[os.path.relpath(folder, options.logdir)] = text
    if not reports:
        raise CommandError(
            f"no training was logged by GuidedGradCAMCallback in {options.logdir!r}. "
            "Candidates: the log_dir that it was given."
        )
    for name, text in sorted(reports.items()):
        print_result(f"# {name}\n\n{text}" if len(reports) > 1 else text)
    return SOME_FAILED if failed else 0
