"""``keras-gradcam explain --format parquet``: rows for programs instead of drawings for people."""

from __future__ import annotations

import argparse
import functools
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...datasets.batch import ExplainBatch
from ...datasets.columns import FAILURE, ID
from ...datasets.ray_run import on_worker
from ...datasets.run import check_sharing, run_dataset
from ...datasets.sources import Part, Rows
from ..console import Progress, outcome, print_message, print_result
from ..errors import INTERRUPTED, SOME_FAILED, CommandError, in_options
from ..inputs.models import load
from ..inputs.streams import report_failure
from .job import prepare


def run_parquet(options: argparse.Namespace, paths: Sequence[str], part: Part) -> int:
    """Explains pictures and writes rows; returns the exit code."""
    check_sharing(options.engine, part)
    if options.engine == "ray":
        sent = argparse.Namespace(**vars(options))
        sent.model, sent.imports = _from_anywhere(options.model), list(map(_from_anywhere, options.imports))
        sent.labels = None if options.labels is None else _from_anywhere(options.labels)
        explain_batch, layer, names = on_worker(_read_options, sent)
        explain_batch.model = functools.partial(_load_model, sent.model, tuple(sent.imports))
    else:
        explain_batch, layer, names = _read_options(options)
    progress: list[Progress] = []
    done = [0]

    def notify(total: int | None, before: int, rows: Rows) -> None:
        if not progress:
            progress.append(Progress(len(paths) if total is None else total, shown=not options.quiet))
            progress[0].skip(before)
            done[0] = before
        for name, failure in zip(rows[ID], rows[FAILURE], strict=True):
            if failure:
                report_failure(str(name), in_options(str(failure)))
        done[0] += len(rows[FAILURE])
        progress[0].advance(len(rows[FAILURE]))

    out = Path(options.out).expanduser()
    try:
        summary = run_dataset(
            list(paths), explain_batch, str(out), part, options.engine, names, options.overwrite, notify, options.actors
        )
    except KeyboardInterrupt:
        _clear(progress)
        print_message(f"interrupted; {done[0]} of {len(paths)} are done. The same command goes on from there.")
        return INTERRUPTED
    except OSError as error:
        raise CommandError(
            f"a result cannot be written: {error.strerror or error}: {error.filename or str(out)!r}. The same command "
            "goes on from there."
        ) from error
    _clear(progress)
    said = outcome(summary.explained, summary.before, summary.failed, layer)
    print_result(f"{said}. See {options.out}; keras-gradcam show {shlex.quote(options.out)} draws some of them")
    return SOME_FAILED if summary.failed else 0


def _read_options(options: argparse.Namespace) -> tuple[ExplainBatch, str | None, dict[int, str]]:
    """Returns what is done to every picture, the path of the explained layer, and the names of classes.

    Raises:
        CommandError: If options do not fit the model.
    """
    job = prepare(options)
    if job.question.num_classes > 1:
        raise CommandError(
            "--class must be one class of each picture for --format parquet, which has one row for each. "
            f"Received: {options.of_class}. Candidates: predicted, a number, a name."
        )
    explain_batch = ExplainBatch(
        None if options.engine == "ray" else job.network.keras_model,
        target=job.question.target,
        layer=options.layer,
        methods=job.explainer.methods,
        preprocess=job.spec.preprocessing,
        size=job.spec.size,
        value_range=job.spec.values,
        batch_size=options.batch_size,
    )
    explain_batch.most_bytes = job.spec.most_bytes
    return explain_batch, job.layer, dict(job.labels.names)


def _from_anywhere(text: str) -> str:
    """Returns the full path of a file, for a worker in another folder; what names none (a module) stays as it is."""
    return os.path.abspath(os.path.expanduser(text)) if os.path.isfile(os.path.expanduser(text)) else text


def _load_model(source: str, imports: Sequence[str]) -> Any:
    """Loads the model of a command line, on a worker."""
    return load(source, imports).keras_model


def _clear(progress: Sequence[Progress]) -> None:
    for bar in progress:
        bar.clear()
