"""``keras-gradcam trust``: says how far the maps of some pictures can be trusted."""

from __future__ import annotations

import argparse

import numpy as np

from ..metrics.trust import trust_report
from ..pictures.folders import find_pictures
from .console import Progress, print_result
from .errors import SOME_FAILED, CommandError
from .explain.job import prepare
from .inputs.streams import PictureStream


def run(options: argparse.Namespace) -> int:
    """Prints the table of checks; returns the exit code."""
    paths = find_pictures(options.images)
    job = prepare(options, ["gradcam"])
    if len(job.explainer.methods) > 1:
        raise CommandError(f"--method must name one method. Received: {', '.join(job.explainer.methods)}.")
    if job.question.num_classes > 1:
        raise CommandError(f"--class must be predicted, a number or a name. Received: {options.of_class}.")
    # Evenly spaced: pictures of one class often stand together.
    indices = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), options.limit)).round().astype(int))
    progress = Progress(len(indices), shown=not options.quiet)
    stream = PictureStream([paths[index] for index in indices], job.spec, options.batch_size, progress)
    batches = list(stream)
    progress.clear()
    if not batches:
        raise CommandError("none of the pictures could be read.")
    (method,) = job.explainer.methods
    report = trust_report(job.explainer, np.concatenate(batches), target=job.question.target, method=method)
    print_result(str(report).rstrip())
    return SOME_FAILED if stream.failures else 0
