"""``keras-gradcam rank``: ranks a gallery by an embedding, and draws what makes pictures match."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer
from ..drawing.pixels import Style, encoded
from ..errors import PictureError
from ..files import replace_whole
from ..pictures.reading import read_picture
from ..pictures.spec import PictureSpec
from ..reid import Ranking, RankList, rank, rank_figure
from ..reid.folders import holds_rows, labelled_pictures, read_rows
from ..reid.retrieval import of_different_identities
from ..version import __version__
from .console import Progress, print_result
from .errors import SOME_FAILED, CommandError, in_options
from .files import as_json, check_out, json_parts
from .inputs.models import Network, load, spec_of
from .inputs.streams import PictureStream

# The ranks of the cumulative matching characteristic that are reported.
_CMC_RANKS = (1, 5, 10, 20)

_RANKING, _DRAWING = "ranking.json", "rank_list.png"


@dataclass(frozen=True, eq=False)
class EmbeddedPictures:
    """Pictures of one folder, embedded, in the order of their files.

    Attributes:
        paths: The files.
        identities: int (N,).
        cameras: int (N,), or None if the names of the files do not tell.
        embeddings: float32 (N, D).
    """

    paths: Sequence[str]
    identities: np.ndarray
    cameras: np.ndarray | None
    embeddings: np.ndarray

    def with_identities(self, values: Any, indices: Sequence[int] | slice = slice(None)) -> tuple[Any, ...]:
        """Returns ``values`` of some of the pictures with their identities and cameras, as :func:`rank` takes them."""
        columns = [self.identities[indices]] + ([] if self.cameras is None else [self.cameras[indices]])
        return (values, *columns)


def run(options: argparse.Namespace) -> int:
    """Ranks a gallery; returns the exit code."""
    sides = {side: _Side(side, getattr(options, side), options.pattern) for side in ("query", "gallery")}
    out = Path(options.out).expanduser()
    check_out(out)
    style = Style(colormap=options.colormap)
    network = load(options.model, options.imports)
    spec = spec_of(network, options)
    explainer = Explainer(network.keras_model, layer=options.layer, methods=["gradcam"], batch_size=options.batch_size)
    failures: dict[str, str] = {}
    query = sides["query"].embedded(explainer, spec, options, failures)
    gallery = query
    if not os.path.samefile(options.query, options.gallery):
        gallery = sides["gallery"].embedded(explainer, spec, options, failures)
    if (query.cameras is None) != (gallery.cameras is None):
        raise CommandError(
            "--pattern must find cameras in all names of both folders, or none. "
            f"Received: cameras of the {'gallery' if query.cameras is None else 'query'} alone."
        )
    query_entries = query.with_identities(query.embeddings)
    # One object for both sides where the gallery is the query's folder: no picture is to be found again in itself.
    gallery_entries = query_entries if gallery is query else gallery.with_identities(gallery.embeddings)
    ranking = rank(query_entries, gallery_entries, metric=options.metric, top=options.top)
    lists = _explain(query, gallery, ranking, explainer, spec, options)
    out.mkdir(parents=True, exist_ok=True)
    if lists:
        replace_whole(out / _DRAWING, encoded(rank_figure(lists, style)))
    replace_whole(out / _RANKING, _json(network, options, query, gallery, ranking, failures))
    _print_summary(out, query, gallery, ranking, len(lists), len(failures))
    return SOME_FAILED if failures else 0


# --- pictures with identities and cameras ---------------------------------------------------------------------------


class _Side:
    """The queries or the gallery: a folder of pictures, or of rows with embeddings, found before the model is loaded.

    Args:
        name: "query" or "gallery".
        folder: As it was typed.
        pattern: Finds identities and cameras.
    """

    def __init__(self, name: str, folder: str, pattern: str) -> None:
        self._name, self._folder, self._pattern = name, folder, pattern
        self._has_rows = holds_rows(folder)
        if not self._has_rows:
            self._paths, self._identities, self._cameras = labelled_pictures(name, folder, pattern)

    def embedded(
        self, explainer: Explainer, spec: PictureSpec, options: argparse.Namespace, failures: dict[str, str]
    ) -> EmbeddedPictures:
        """Embeds the pictures; adds those that cannot be read to ``failures``."""
        if self._has_rows:
            paths, embeddings, identities, cameras = read_rows(self._name, self._folder, self._pattern)
            return EmbeddedPictures(paths, identities, cameras, embeddings)
        progress = Progress(len(self._paths), shown=not options.quiet)
        stream = PictureStream(self._paths, spec, options.batch_size, progress)
        parts = [explainer.embed(batch) for batch in stream]
        progress.clear()
        failures |= stream.failures
        if not parts:
            raise CommandError(f"--{self._name} must hold pictures. Received: none that could be read.")
        readable = [index for index, path in enumerate(self._paths) if path not in stream.failures]
        cameras = None if self._cameras is None else self._cameras[readable]
        return EmbeddedPictures(stream.read, self._identities[readable], cameras, np.concatenate(parts))


# --- lists with maps ------------------------------------------------------------------------------------------------


def _explain(
    query: EmbeddedPictures,
    gallery: EmbeddedPictures,
    ranking: Ranking,
    explainer: Explainer,
    spec: PictureSpec,
    options: argparse.Namespace,
) -> list[RankList]:
    """Explains queries of different identities; their pictures and those of their lists are read once more.

    These are ranked again among themselves: the pictures of several lists, ranked alone, come in the same order.
    """
    queries = of_different_identities(query.identities, options.show)
    queries = [index for index in queries if ranking.indices[index, 0] >= 0]
    if not queries:
        return []
    in_lists = {int(index) for row in queries for index in ranking.indices[row] if index >= 0}
    if gallery is query:
        both = sorted({*queries, *in_lists})
        query_side = gallery_side = _read_again(query, both, spec)
        rows = [both.index(index) for index in queries]
    else:
        query_side = _read_again(query, queries, spec)
        gallery_side = _read_again(gallery, sorted(in_lists), spec)
        rows = list(range(len(queries)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # among so few pictures some queries have no right match
        lists = rank(
            query_side, gallery_side, explainer, metric=options.metric, top=options.top, explain=rows, progress=False
        ).explained
    undo = spec.preprocessing.undo
    return [
        replace(explained, index=index, query=undo(explained.query), pictures=undo(explained.pictures))
        for index, explained in zip(queries, lists, strict=True)
    ]


def _read_again(embedded: EmbeddedPictures, indices: Sequence[int], spec: PictureSpec) -> tuple[Any, ...]:
    """Reads some of the pictures once more; returns them with identities and cameras."""
    pixels = []
    for path in (embedded.paths[index] for index in indices):
        picture = read_picture(path, spec)
        if isinstance(picture, PictureError):
            raise CommandError(
                f"{path!r} {in_options(str(picture))}. Candidates: --show 0, a ranking without pictures."
            )
        pixels.append(picture.pixels)
    return embedded.with_identities(spec.preprocessing(np.stack(pixels).astype(np.float32)), indices)


# --- results --------------------------------------------------------------------------------------------------------


def _cmc(ranking: Ranking) -> dict[str, float | None]:
    return {f"rank_{k}": _number(ranking.cmc[k - 1]) for k in _CMC_RANKS if k <= len(ranking.cmc)}


def _json(
    network: Network,
    options: argparse.Namespace,
    query: EmbeddedPictures,
    gallery: EmbeddedPictures,
    ranking: Ranking,
    failures: dict[str, str],
) -> Iterator[bytes]:
    """Yields ranking.json: how the embedding scores, and the list of every query."""
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
    lists = (as_json(_entry(index, query, gallery, ranking)) for index in range(len(query.paths)))
    return json_parts(header, {"rankings": lists, "failures": failed})


def _entry(row: int, query: EmbeddedPictures, gallery: EmbeddedPictures, ranking: Ranking) -> dict[str, Any]:
    return {
        "path": query.paths[row],
        "identity": int(query.identities[row]),
        "average_precision": _number(ranking.average_precision[row]),
        "top": [
            {
                "path": gallery.paths[index],
                "identity": int(gallery.identities[index]),
                "similarity": _number(ranking.similarities[row, position]),
                "correct": bool(ranking.correct[row, position]),
            }
            for position, index in enumerate(ranking.indices[row])
            if index >= 0
        ],
    }


def _number(value: float) -> float | None:
    """Returns a number for JSON, which has no NaN."""
    return float(value) if np.isfinite(value) else None


def _print_summary(
    out: Path, query: EmbeddedPictures, gallery: EmbeddedPictures, ranking: Ranking, drawn: int, failed: int
) -> None:
    print_result(f"{len(query.paths)} queries, {len(gallery.paths)} pictures in the gallery")
    print_result(f"mAP      {_percent(_number(ranking.mean_ap))}")
    for name, share in _cmc(ranking).items():
        print_result(f"{name.replace('_', '-'):<8} {_percent(share)}")
    if failed:
        print_result(f"{failed} failed")
    print_result(f"See {out / _RANKING}" + (f" and {out / _DRAWING}" if drawn else ""))


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"
