"""``keras-gradcam explain``: what a model looks at in pictures, tens of thousands if need be."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...files import replace_whole
from ..console import Progress, say, tell
from ..errors import INTERRUPTED, SOME_FAILED, CommandError, PictureError
from ..files import check_writable
from ..inputs.input_spec import Intake
from ..inputs.paths import find_pictures, result_names
from ..inputs.pictures import Picture, decode, digest, read_file
from ..inputs.streams import one_ahead, report_failure, slices, threads
from .formats import FORMATS, Result, shortened
from .job import Work, prepare
from .journal import MANIFEST, Journal
from .question import explained_classes

# How many of the likeliest classes are stored.
_LIKELIEST = 5


def run(options: argparse.Namespace) -> int:
    """Explains pictures; returns the exit code."""
    paths = find_pictures(options.images, without=options.out)
    try:
        check_writable(Path(options.out))
    except OSError as error:
        raise CommandError(f"--out cannot be written to: {error.strerror}: {error.filename!r}.") from error
    work = prepare(options)
    with Journal(Path(options.out), work.header(), options.overwrite) as journal:
        names = result_names(paths, {path: known.name for path, known in journal.known.items()})
        _check_nothing_else_is_replaced(options.out, work, journal, paths, names)
        return _explain(work, journal, Path(options.out), paths, names, options)


def _check_nothing_else_is_replaced(
    out: str, work: Work, journal: Journal, paths: Sequence[str], names: Sequence[str]
) -> None:
    there = set(os.listdir(out))
    for path, name in zip(paths, names, strict=True):
        if path not in journal.known:
            others = there.intersection(work.files(name))
            if others:
                raise CommandError(
                    f"--out {out!r} holds {min(others)!r}, which keras-gradcam did not write and would replace. "
                    "Candidates: another --out."
                )


# --- going through the pictures -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Item:
    """One picture on its way.

    Attributes:
        path: Of the file.
        name: Of its results.
        done: Whether this very content was explained before and its results are there.
        picture: Or what is wrong with it; None if nothing of its batch is to be done.
    """

    path: str
    name: str
    done: bool
    picture: Picture | PictureError | None = None


def _explain(
    work: Work, journal: Journal, out: Path, paths: Sequence[str], names: Sequence[str], options: argparse.Namespace
) -> int:
    progress = Progress(len(paths), shown=not options.quiet)
    failed = done = before = 0
    try:
        with threads() as pool:
            for items in _batches(work, journal, out, paths, names, pool):
                if all(item.done for item in items):
                    before += len(items)
                    progress.skip(len(items))
                    continue
                for item, failure in _explained(work, journal, out, items, pool):
                    if failure is not None:
                        failed += 1
                        report_failure(item.path, failure)
                    elif item.done:
                        before += 1
                    else:
                        done += 1
                    progress.advance()
        journal.finish(paths, work.files)
    except KeyboardInterrupt:
        progress.clear()
        say(f"interrupted; {done + before} of {len(paths)} are done. The same command goes on from there.")
        return INTERRUPTED
    except OSError as error:
        raise CommandError(
            f"a result cannot be written: {error.strerror}: {error.filename!r}. {done + before} of {len(paths)} are "
            "done, and the same command goes on from there."
        ) from error
    progress.clear()
    tell(_summary(work, out, done, before, failed))
    return SOME_FAILED if failed else 0


def _summary(work: Work, out: Path, done: int, before: int, failed: int) -> str:
    parts = [f"{done} explained"] if done or not before else []
    if before:
        parts.append(f"{before} explained before")
    if failed:
        parts.append(f"{failed} failed")
    layer = f" at layer {work.layer}" if work.layer else ""
    return f"{', '.join(parts)}{layer}. See {out / MANIFEST}"


def _batches(
    work: Work, journal: Journal, out: Path, paths: Sequence[str], names: Sequence[str], pool: ThreadPoolExecutor
) -> Iterator[list[_Item]]:
    """Batches of the same pictures in every run, since the last digits of a result depend on what is beside it.

    That is why, of a batch that is done in part, all pictures are read.
    """
    largest = FORMATS[work.form].largest(max(work.intake.size))

    def load(part: slice) -> list[_Item]:
        contents = list(pool.map(_content, paths[part]))
        items = [
            _Item(path, name, _is_done(journal, out, work.files(name), path, content))
            for path, name, content in zip(paths[part], names[part], contents, strict=True)
        ]
        if all(item.done for item in items):
            return items
        pictures = pool.map(lambda content: _picture(content, work.intake, largest), contents)
        return [replace(item, picture=picture) for item, picture in zip(items, pictures, strict=True)]

    return one_ahead(load, slices(len(paths), work.explainer.batch_size))


def _content(path: str) -> bytes | PictureError:
    try:
        return read_file(path)
    except PictureError as error:
        return error


def _picture(content: bytes | PictureError, intake: Intake, largest: int) -> Picture | PictureError:
    if isinstance(content, PictureError):
        return content
    try:
        return decode(content, intake.size, intake.channels, largest)
    except PictureError as error:
        return error


def _is_done(journal: Journal, out: Path, files: Sequence[str], path: str, content: bytes | PictureError) -> bool:
    known = journal.known.get(path)
    if known is None or known.digest is None or isinstance(content, PictureError):
        return False
    return known.digest == digest(content) and all((out / name).exists() for name in files)


def _explained(
    work: Work, journal: Journal, out: Path, items: Sequence[_Item], pool: ThreadPoolExecutor
) -> Iterator[tuple[_Item, str | None]]:
    """Explains a batch; gives each picture, with what failed, as soon as that is on disk."""
    good = [(item.path, item.picture) for item in items if isinstance(item.picture, Picture)]
    answered = answers(work, [picture for _, picture in good]) if good else []
    by_path = {path: answer for (path, _), answer in zip(good, answered, strict=True)}
    wanted = [item.path for item in items if not item.done and isinstance(by_path.get(item.path), Answer)]
    drawn = pool.map(lambda path: _drawn(work, by_path[path]), wanted)
    new = {item.path: item.name for item in items if item.path not in journal.known}
    if new:
        journal.begin(new, [file for name in new.values() for file in work.files(name)])
    for item in items:
        if item.done:
            yield item, None
            continue
        files = work.files(item.name)
        answer = by_path.get(item.path)
        if isinstance(answer, Answer):
            for file, content in zip(files, next(drawn), strict=True):
                replace_whole(out / file, content)
            journal.add({"path": item.path, "name": item.name, **answer.said, "files": files})
            yield item, None
            continue
        failure = str(answer or item.picture)
        known = journal.known.get(item.path)
        if known is not None and known.digest is not None:
            for file in files:  # of what the picture was before
                (out / file).unlink(missing_ok=True)
        journal.add({"path": item.path, "name": item.name, "failure": failure})
        yield item, failure


def _drawn(work: Work, answer: Answer | PictureError) -> list[bytes]:
    assert isinstance(answer, Answer)
    return FORMATS[work.form].contents(answer.result, work.style)


@dataclass(frozen=True, eq=False)
class Answer:
    """One explained picture.

    Attributes:
        result: What is drawn or stored.
        said: What the manifest says of it.
    """

    result: Result
    said: dict[str, Any]


def answers(work: Work, pictures: Sequence[Picture]) -> list[Answer | PictureError]:
    """Explains a batch of pictures."""
    images = work.intake.preprocessing(np.stack([picture.pixels for picture in pictures]).astype(np.float32))
    explanations = work.question.answers(work.explainer, images)
    shares = explanations[0].probabilities
    assert shares is not None  # targets of classes fit models with classes alone
    classes = explained_classes(work.question, shares, explanations)
    likeliest = np.argsort(-shares, axis=1, kind="stable")[:, :_LIKELIEST]
    found: list[Answer | PictureError] = []
    for number, picture in enumerate(pictures):
        scores = np.array([explanation.scores[number] for explanation in explanations])
        if not (np.isfinite(scores).all() and np.isfinite(shares[number]).all()):
            found.append(PictureError("the model's answer is not a finite number"))
            continue
        share, explained, best = shares[number], classes[number].tolist(), likeliest[number]
        result = Result(
            shown=picture.shown,
            maps=[{name: array[number] for name, array in one.maps.items()} for one in explanations],
            captions=_captions(work, share, explained, scores),
            arrays={
                "scores": scores,
                "classes": np.array(explained),
                "top_classes": best,
                "top_probabilities": share[best].astype(np.float32),
            },
        )
        found.append(Answer(result, _said(work, picture, share, explained, scores)))
    return found


def _captions(work: Work, share: np.ndarray, explained: Sequence[int], scores: np.ndarray) -> list[tuple[str, ...]]:
    def named(number: int) -> str:
        probability = f"{share[number]:.2f}" if share[number] >= 0.005 else "<0.01"
        return f"{shortened(work.labels.name(number))} {probability}"

    best = int(share.argmax())
    other = "" if work.question.contrast is None else named(work.question.contrast)
    captions = []
    for place, number in enumerate(explained):
        words = work.question.words(named(number), other)
        if len(explained) > 1:
            said: tuple[str, ...] = (f"{place + 1}. {words}",)
        elif words == named(best):
            said = (f"predicted: {words}",)
        else:
            said = (f"predicted: {named(best)}", f"explained: {words}")
        captions.append((*said, f"score {scores[place]:.3g}"))
    return captions


def _said(
    work: Work, picture: Picture, share: np.ndarray, explained: Sequence[int], scores: np.ndarray
) -> dict[str, Any]:
    def named(number: int) -> dict[str, Any]:
        return {"class": number, "name": work.labels.names.get(number), "probability": float(share[number])}

    return {
        "sha256": picture.digest,
        "size": list(picture.size),
        "predicted": named(int(share.argmax())),
        "explained": [
            {**named(number), "score": float(score)} for number, score in zip(explained, scores, strict=True)
        ],
        "layer": work.layer,
    }
