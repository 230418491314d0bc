"""``keras-gradcam rank``: how well an embedding finds people again, and what makes pictures match."""

from __future__ import annotations

import argparse
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer
from ..drawing.pixels import Style, encoded
from ..files import replace_whole
from ..reid import Ranking, RankList, rank, rank_figure
from ..reid.retrieval import of_different_identities
from ..version import __version__
from .console import Progress, tell
from .errors import SOME_FAILED, CommandError, PictureError
from .files import as_json, check_writable, json_parts
from .inputs.input_spec import Intake, intake
from .inputs.models import Network, load
from .inputs.paths import find_pictures
from .inputs.streams import PictureStream, read_picture

# The places of the cumulative matching characteristic that are told.
_PLACES = (1, 5, 10, 20)

_RANKING, _DRAWING = "ranking.json", "rank_list.png"


@dataclass(frozen=True, eq=False)
class People:
    """Pictures of one folder, embedded, in the order of their files.

    Attributes:
        paths: Of the pictures.
        identities: int (N,).
        cameras: int (N,), or None if the names do not tell.
        embeddings: float32 (N, D).
    """

    paths: Sequence[str]
    identities: np.ndarray
    cameras: np.ndarray | None
    embeddings: np.ndarray

    def labelled(self, values: Any, places: Sequence[int] | slice = slice(None)) -> tuple[Any, ...]:
        """``values`` of some of the pictures, with their identities and cameras."""
        columns = [self.identities[places]] + ([] if self.cameras is None else [self.cameras[places]])
        return (values, *columns)


def run(options: argparse.Namespace) -> int:
    """Ranks a gallery; returns the exit code."""
    pattern = _pattern(options.pattern)
    named = {side: _named(side, getattr(options, side), pattern) for side in ("query", "gallery")}
    out = Path(options.out)
    try:
        check_writable(out)
    except OSError as error:
        raise CommandError(f"--out cannot be written to: {error.strerror}: {error.filename!r}.") from error
    style = Style(colormap=options.colormap)
    network = load(options.model, options.imports)
    taken = intake(network, options.preprocess, options.size)
    explainer = Explainer(network.keras_model, layer=options.layer, methods=["gradcam"], batch_size=options.batch_size)
    failures: dict[str, str] = {}
    query = _embedded("query", named["query"], explainer, taken, options, failures)
    gallery = query
    if not os.path.samefile(options.query, options.gallery):
        gallery = _embedded("gallery", named["gallery"], explainer, taken, options, failures)
    entries = query.labelled(query.embeddings)
    # With itself as the gallery, a picture is not to be found again in itself.
    others = entries if gallery is query else gallery.labelled(gallery.embeddings)
    ranking = rank(entries, others, metric=options.metric, top=options.top)
    shown = _explained(query, gallery, ranking, explainer, taken, options)
    out.mkdir(parents=True, exist_ok=True)
    if shown:
        replace_whole(out / _DRAWING, encoded(rank_figure(shown, style)))
    replace_whole(out / _RANKING, _said(network, options, query, gallery, ranking, failures))
    _tell(out, query, gallery, ranking, len(shown), len(failures))
    return SOME_FAILED if failures else 0


# --- who is on the pictures -----------------------------------------------------------------------------------------

_Named = list[tuple[str, int, int | None]]


def _pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise CommandError(f"--pattern is no regular expression: {error}. Received: {text!r}.") from error
    if "id" not in pattern.groupindex:
        raise CommandError(
            f"--pattern must have a group 'id', and may have one 'camera'. Received: {text!r}. "
            r"Candidates: '(?P<id>\d+)_cam(?P<camera>\d+)'."
        )
    return pattern


def _named(side: str, folder: str, pattern: re.Pattern[str]) -> _Named:
    """Path, identity and camera of every picture in a folder."""
    if not Path(folder).is_dir():
        raise CommandError(f"--{side} must be a folder. Received: {folder!r}.")
    found: _Named = []
    for path in find_pictures([folder]):
        name = Path(path).name
        match = pattern.search(name) or pattern.search(Path(path).relative_to(os.path.abspath(folder)).as_posix())
        if match is None:
            raise CommandError(
                f"--{side} holds {name!r}, in whose name --pattern finds no identity. "
                r"Candidates: --pattern '(?P<id>\d+)_cam(?P<camera>\d+)', a folder of pictures of people alone."
            )
        camera = match.groupdict().get("camera")
        try:
            found.append((path, int(match["id"]), None if camera is None else int(camera)))
        except ValueError as error:
            raise CommandError(f"--pattern must find numbers. Received: {match.groupdict()} in {name!r}.") from error
    return found


def _embedded(
    side: str,
    named: _Named,
    explainer: Explainer,
    taken: Intake,
    options: argparse.Namespace,
    failures: dict[str, str],
) -> People:
    progress = Progress(len(named), shown=not options.quiet)
    stream = PictureStream([path for path, _, _ in named], taken, options.batch_size, progress)
    embeddings = [explainer.embed(batch) for batch in stream]
    progress.clear()
    failures |= stream.failures
    if not embeddings:
        raise CommandError(f"--{side} must hold pictures. Received: none that could be read.")
    known = [entry for entry in named if entry[0] not in stream.failures]
    cameras = [camera for _, _, camera in known if camera is not None]
    return People(
        paths=stream.read,
        identities=np.array([identity for _, identity, _ in known]),
        cameras=np.array(cameras) if len(cameras) == len(known) else None,
        embeddings=np.concatenate(embeddings),
    )


# --- what makes them match ------------------------------------------------------------------------------------------


def _explained(
    query: People,
    gallery: People,
    ranking: Ranking,
    explainer: Explainer,
    taken: Intake,
    options: argparse.Namespace,
) -> list[RankList]:
    """Queries of different people with maps, of pictures that are read once more.

    The first of a list among the first of several lists are the same as among all, so that no others are needed.
    """
    asked = of_different_identities(query.identities, options.show)
    asked = [number for number in asked if ranking.indices[number, 0] >= 0]
    if not asked:
        return []
    wanted = {int(place) for number in asked for place in ranking.indices[number] if place >= 0}
    if gallery is query:
        chosen = sorted({*asked, *wanted})
        entries = others = _again(query, chosen, taken)
        places = [chosen.index(number) for number in asked]
    else:
        entries, others = _again(query, asked, taken), _again(gallery, sorted(wanted), taken)
        places = list(range(len(asked)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of those that are ranked again not all find a match
        lists = rank(
            entries, others, explainer, metric=options.metric, top=options.top, explain=places, progress=False
        ).explained
    undone = taken.preprocessing.undone
    return [
        replace(one, index=number, query=undone(one.query), pictures=undone(one.pictures))
        for number, one in zip(asked, lists, strict=True)
    ]


def _again(people: People, places: Sequence[int], taken: Intake) -> tuple[Any, ...]:
    """Some of the pictures, read once more, with identities and cameras."""
    pixels = []
    for path in (people.paths[place] for place in places):
        picture = read_picture(path, taken)
        if isinstance(picture, PictureError):
            raise CommandError(f"{path!r} could be read a moment ago, but not any more.")
        pixels.append(picture.pixels)
    return people.labelled(taken.preprocessing(np.stack(pixels).astype(np.float32)), places)


# --- what is told ---------------------------------------------------------------------------------------------------


def _cmc(ranking: Ranking) -> dict[str, float | None]:
    shares = {f"rank_{place}": float(ranking.cmc[place - 1]) for place in _PLACES if place <= len(ranking.cmc)}
    return {name: share if np.isfinite(share) else None for name, share in shares.items()}


def _said(
    network: Network,
    options: argparse.Namespace,
    query: People,
    gallery: People,
    ranking: Ranking,
    failures: dict[str, str],
) -> Iterator[bytes]:
    header = {
        "made_with": {"keras_gradcam": __version__},
        "model": network.identity(),
        "settings": {"metric": options.metric, "pattern": options.pattern, "preprocess": options.preprocess},
        "queries": len(query.paths),
        "gallery": len(gallery.paths),
        "mean_ap": _number(ranking.mean_ap),
        **_cmc(ranking),
    }
    failed = (as_json({"path": path, "failure": failure}) for path, failure in failures.items())
    lists = (as_json(_list(number, query, gallery, ranking)) for number in range(len(query.paths)))
    return json_parts(header, {"rankings": lists, "failures": failed})


def _list(number: int, query: People, gallery: People, ranking: Ranking) -> dict[str, Any]:
    return {
        "path": query.paths[number],
        "identity": int(query.identities[number]),
        "average_precision": _number(ranking.average_precision[number]),
        "top": [
            {
                "path": gallery.paths[place],
                "identity": int(gallery.identities[place]),
                "similarity": _number(ranking.similarities[number, rank_]),
                "correct": bool(ranking.correct[number, rank_]),
            }
            for rank_, place in enumerate(ranking.indices[number])
            if place >= 0
        ],
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _tell(out: Path, query: People, gallery: People, ranking: Ranking, shown: int, failed: int) -> None:
    tell(f"{len(query.paths)} queries, {len(gallery.paths)} pictures in the gallery")
    tell(f"mAP      {_percent(ranking.mean_ap)}")
    for name, share in _cmc(ranking).items():
        tell(f"{name.replace('_', '-'):<8} {_percent(share)}")
    if failed:
        tell(f"{failed} failed")
    tell(f"See {out / _RANKING}" + (f" and {out / _DRAWING}" if shown else ""))


def _percent(share: float | None) -> str:
    return "unknown" if share is None or not np.isfinite(share) else f"{100 * share:.1f} %"
