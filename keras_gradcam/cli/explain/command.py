"""``keras-gradcam explain``: what a model looks at in pictures, tens of thousands if need be."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.sources import read_part
from ...drawing.class_names import short_name
from ...errors import PictureError, in_one_line
from ...files import FileStatus, check_file, file_digest, file_status, replace_whole
from ...pictures.decoding import Picture
from ...pictures.folders import find_pictures
from ...pictures.reading import one_ahead, read_picture, slices, threads
from ..console import Progress, outcome, print_message, print_result
from ..errors import INTERRUPTED, SOME_FAILED, CommandError, in_options
from ..files import check_out
from ..inputs.streams import DepthNotes, report_failure
from .formats import FORMATS, Result
from .job import Job, prepare
from .journal import MANIFEST, Journal
from .parquet import run_parquet
from .question import explained_classes
from .result_names import result_names

# The number of most likely classes that are stored.
_TOP_CLASSES = 5


def run(options: argparse.Namespace) -> int:
    """Explains pictures; returns the exit code."""
    out = Path(options.out).expanduser()
    paths = find_pictures(options.images, without=out)
    part = read_part(options.shard)
    check_out(out)
    if options.format == "parquet":
        return run_parquet(options, paths, part)
    if options.engine != "local":
        raise CommandError(f"--engine {options.engine} must be with --format parquet. Received: {options.format}.")
    if part.count > 1:
        # Manifests name files, so that each part needs a folder of its own.
        out /= f"shard-{part.name}"
        owned = part.owns(paths)
        paths = [path for path, is_owned in zip(paths, owned, strict=True) if is_owned]
        if not paths:
            print_result(f"0 explained: none of the {len(owned)} pictures falls to share {options.shard}")
            return 0
    job = prepare(options)
    with Journal(out, job.header(), options.overwrite) as journal:
        names = result_names(paths, {path: record.name for path, record in journal.records.items()})
        # One listing is faster than a look at each file.
        existing = frozenset(os.listdir(out))
        _check_nothing_else_is_replaced(job, journal, out, existing, paths, names)
        answers = None if options.quiet else _Answers(paths)
        return _Run(job, journal, out, existing, answers).explain(
            paths, names, Progress(len(paths), shown=not options.quiet)
        )


def _check_nothing_else_is_replaced(
    job: Job, journal: Journal, out: Path, existing: Set[str], paths: Sequence[str], names: Sequence[str]
) -> None:
    """Raises CommandError if results would replace files of somebody else."""
    for path, name in zip(paths, names, strict=True):
        if path not in journal.records:
            replaced = existing & {*job.files(name)}
            if replaced:
                raise CommandError(
                    f"--out {str(out)!r} holds {min(replaced)!r}, which keras-gradcam did not write and would replace. "
                    "Candidates: another --out."
                )


# --- the run over all pictures --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Item:
    """One picture on its way through the run.

    Attributes:
        path: The file.
        name: The name of its results.
        done: Whether this very content was explained before and its results exist.
        status: What tells whether the file is changed, taken before it is read.
        picture: The picture, or what is wrong with it; None if its whole batch is done.
    """

    path: str
    name: str
    done: bool
    status: FileStatus | None = None
    picture: Picture | PictureError | None = None


class _Run:
    """Explains pictures batch by batch, and continues where an earlier run was interrupted.

    Args:
        job: What is done to every picture.
        journal: What earlier runs have done.
        out: The folder of results.
        existing: The files in it.
        answers: Prints what the model says of each picture, or None.
    """

    def __init__(
        self, job: Job, journal: Journal, out: Path, existing: Set[str], answers: _Answers | None = None
    ) -> None:
        self._job, self._journal, self._out, self._existing, self._answers = job, journal, out, existing, answers
        self._notes = DepthNotes(job.spec)

    def explain(self, paths: Sequence[str], names: Sequence[str], progress: Progress) -> int:
        """Explains all pictures; returns the exit code."""
        failed = explained = before = 0
        try:
            with threads() as pool:
                for items in self._batches(paths, names, pool):
                    if all(item.done for item in items):
                        before += len(items)
                        progress.skip(len(items))
                        continue
                    for item, failure in self._explain_batch(items, pool):
                        if failure is not None:
                            failed += 1
                            report_failure(item.path, failure)
                        elif item.done:
                            before += 1
                        else:
                            explained += 1
                        progress.advance()
            self._journal.finish(paths, self._job.files)
        except KeyboardInterrupt:
            progress.clear()
            done = f"{explained + before} of {len(paths)} are done"
            print_message(f"interrupted; {done}. The same command goes on from there.")
            return INTERRUPTED
        except OSError as error:
            raise CommandError(
                f"a result cannot be written: {error.strerror}: {error.filename!r}. {explained + before} of "
                f"{len(paths)} are done, and the same command goes on from there."
            ) from error
        progress.clear()
        print_result(f"{outcome(explained, before, failed, self._job.layer)}. See {self._out / MANIFEST}")
        return SOME_FAILED if failed else 0

    def _batches(self, paths: Sequence[str], names: Sequence[str], pool: ThreadPoolExecutor) -> Iterator[list[_Item]]:
        """Reads batches of the same pictures in every run, since the last digits of a result depend on its batch.

        For the same reason all pictures of a batch are read if only some of them are done.
        """
        spec = self._job.spec
        largest = FORMATS[self._job.format].largest(max(spec.size))

        def load(rows: slice) -> list[_Item]:
            items = list(pool.map(self._item, paths[rows], names[rows]))
            if all(item.done for item in items):
                return items
            pictures = pool.map(lambda path: read_picture(path, spec, largest), paths[rows])
            return [replace(item, picture=picture) for item, picture in zip(items, pictures, strict=True)]

        return one_ahead(load, slices(len(paths), self._job.explainer.batch_size))

    def _item(self, path: str, name: str) -> _Item:
        status = file_status(path)
        return _Item(path, name, self._is_done(path, name, status), status)

    def _exists(self, file: str) -> bool:
        # Some file systems list names in another spelling of Unicode.
        return file in self._existing or (self._out / file).exists()

    def _is_done(self, path: str, name: str, status: FileStatus | None) -> bool:
        record = self._journal.records.get(path)
        if record is None or record.digest is None or not all(map(self._exists, self._job.files(name))):
            return False
        if status is not None and status == record.status:
            return True
        try:
            check_file(path, self._job.spec.most_bytes)
            return record.digest == file_digest(path)
        except OSError:  # said when the picture is read
            return False

    def _explain_batch(self, items: Sequence[_Item], pool: ThreadPoolExecutor) -> Iterator[tuple[_Item, str | None]]:
        """Explains a batch; yields each picture, with what failed, as soon as its results are on disk."""
        job, journal = self._job, self._journal
        pictures = {item.path: item.picture for item in items if isinstance(item.picture, Picture)}
        outcomes = dict(zip(pictures, explain_pictures(job, list(pictures.values())), strict=True)) if pictures else {}
        new = [outcomes[item.path] for item in items if not item.done and item.path in outcomes]
        contents = pool.map(self._file_contents, [outcome for outcome in new if isinstance(outcome, ExplainedPicture)])
        begun = {item.path: item.name for item in items if item.path not in journal.records}
        if begun:
            journal.begin(begun, [file for name in begun.values() for file in job.files(name)])
        for item in items:
            if item.done:
                yield item, None
                continue
            outcome = outcomes.get(item.path)
            if isinstance(item.picture, Picture):
                self._notes.add(item.path, item.picture)
            if isinstance(outcome, ExplainedPicture):
                files = job.files(item.name)
                for file, content in zip(files, next(contents), strict=True):
                    replace_whole(self._out / file, content)
                entry = {"path": item.path, "name": item.name, **outcome.entry, **_status_entry(item.status)}
                journal.add({**entry, "files": files})
                if self._answers is not None:
                    self._answers.add(item.path, outcome.entry)
                yield item, None
            else:
                failure = in_options(str(outcome or item.picture))
                self._note_failure(item, failure)
                yield item, failure

    def _file_contents(self, explained: ExplainedPicture) -> list[bytes]:
        return FORMATS[self._job.format].contents(explained.result, self._job.style)

    def _note_failure(self, item: _Item, failure: str) -> None:
        """Notes that a picture cannot be explained, and removes the results of what it was before."""
        record = self._journal.records.get(item.path)
        if record is not None and record.digest is not None:
            for file in self._job.files(item.name):
                (self._out / file).unlink(missing_ok=True)
        self._journal.add({"path": item.path, "name": item.name, "failure": failure})


def _status_entry(status: FileStatus | None) -> dict[str, int]:
    """Describes in the manifest what tells whether a file is changed."""
    return {} if status is None else {"bytes": status[0], "modified": status[1]}


class _Answers:
    """Prints a table while it grows: what the model predicts for each picture, what is explained, and its score.

    Args:
        paths: All pictures.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._folder = 0
        with contextlib.suppress(ValueError):  # on Windows there may be several drives
            self._folder = len(os.path.join(os.path.commonpath([os.path.dirname(path) for path in paths]), ""))
        self._width = min(max(map(len, paths)) - self._folder, 48)

    def add(self, path: str, entry: Mapping[str, Any]) -> None:
        explained = [_in_words(answer) for answer in entry["explained"]]
        predicted = _in_words(entry["predicted"]) if "predicted" in entry else ""
        words = [f"{text}, score {answer['score']:.3g}" if "score" in answer else text
                 for text, answer in zip(explained, entry["explained"], strict=True)]  # fmt: skip
        if predicted and explained != [predicted]:
            words[0] = f"predicted: {predicted}; explained: {words[0]}"
        print_result(f"{in_one_line(path[self._folder :]):{self._width}}  {'; '.join(words)}")


def _in_words(answer: Mapping[str, Any]) -> str:
    """Describes a class with its probability, or a value."""
    if "class" not in answer:
        return f"value {answer['value']:.3g}"
    name = f"class {answer['class']}" if answer["name"] is None else answer["name"]
    return f"{short_name(name)} {answer['probability']:.2f}"


# --- explaining a batch ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ExplainedPicture:
    """One explained picture.

    Attributes:
        result: What is drawn or stored.
        entry: Its entry in the manifest, without the names of its files.
    """

    result: Result
    entry: dict[str, Any]


def explain_pictures(job: Job, pictures: Sequence[Picture]) -> list[ExplainedPicture | PictureError]:
    """Explains a batch of pictures."""
    images = job.spec.preprocessing(np.stack([picture.pixels for picture in pictures]).astype(np.float32))
    explanations = job.question.explain(job.explainer, images)
    probabilities = explanations[0].probabilities
    classes = None if probabilities is None else explained_classes(job.question, probabilities, explanations)
    outcomes: list[ExplainedPicture | PictureError] = []
    for index, picture in enumerate(pictures):
        scores = np.array([explanation.scores[index] for explanation in explanations])
        if not np.isfinite(scores).all() or not np.isfinite(0 if probabilities is None else probabilities[index]).all():
            outcomes.append(PictureError("the model's answer is not a finite number"))
            continue
        if probabilities is None or classes is None:
            answer = _about_value(scores)
        else:
            answer = _about_classes(job, probabilities[index], classes[index].tolist(), scores)
        result = Result(
            shown=picture.shown,
            maps=[
                {name: maps[index] for name, maps in explanation.drawn_maps().items()} for explanation in explanations
            ],
            captions=answer.captions,
            arrays={"scores": scores, **answer.arrays},
            spans=explanations[0].spans,
        )
        entry = {"sha256": picture.digest, "size": list(picture.size), **answer.entry, "layer": job.layer}
        if picture.depth:
            entry["depth"] = picture.depth
        outcomes.append(ExplainedPicture(result, entry))
    return outcomes


@dataclass(frozen=True, eq=False)
class _Answer:
    """What the model says of a picture: below its maps, beside them in files, and in the manifest."""

    captions: list[tuple[str, ...]]
    arrays: dict[str, np.ndarray]
    entry: dict[str, Any]


def _about_value(scores: np.ndarray) -> _Answer:
    (value,) = scores.tolist()
    return _Answer([(f"value {value:.3g}",)], {}, {"explained": [{"value": value}]})


def _about_classes(job: Job, probabilities: np.ndarray, explained: Sequence[int], scores: np.ndarray) -> _Answer:
    def describe(number: int) -> dict[str, Any]:
        return {"class": number, "name": job.labels.names.get(number), "probability": float(probabilities[number])}

    top = np.argsort(-probabilities, kind="stable")[:_TOP_CLASSES]
    return _Answer(
        _captions(job, probabilities, explained, scores),
        {
            "classes": np.array(explained),
            "top_classes": top,
            "top_probabilities": probabilities[top].astype(np.float32),
        },
        {
            "predicted": describe(int(probabilities.argmax())),
            "explained": [
                {**describe(number), "score": float(score)} for number, score in zip(explained, scores, strict=True)
            ],
        },
    )


def _captions(
    job: Job, probabilities: np.ndarray, explained: Sequence[int], scores: np.ndarray
) -> list[tuple[str, ...]]:
    """Returns the texts below the maps of each explained class."""

    def describe(number: int) -> str:
        probability = f"{probabilities[number]:.2f}" if probabilities[number] >= 0.005 else "<0.01"
        return f"{short_name(job.labels.name(number))} {probability}"

    predicted = describe(int(probabilities.argmax()))
    contrasted = "" if job.question.contrast is None else describe(job.question.contrast)
    captions = []
    for index, number in enumerate(explained):
        caption = job.question.caption(describe(number), contrasted)
        if len(explained) > 1:
            lines: tuple[str, ...] = (f"{index + 1}. {caption}",)
        elif caption == predicted:
            lines = (f"predicted: {caption}",)
        else:
            lines = (f"predicted: {predicted}", f"explained: {caption}")
        captions.append((*lines, f"score {scores[index]:.3g}"))
    return captions
