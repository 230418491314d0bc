"""``keras-gradcam filters`` and ``top``: learned filters, and the pictures that excite filters most."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..attribution.explainer import Explainer
from ..drawing.pixels import encoded
from ..files import replace_whole
from ..filters.kernels import filter_kernels
from ..filters.top_activations import TopActivations, top_activations
from .console import Progress, tell
from .errors import SOME_FAILED, CommandError
from .files import as_json, check_writable, json_parts
from .inputs.input_spec import intake
from .inputs.models import load
from .inputs.paths import find_pictures
from .inputs.streams import PictureStream

# How many filters are looked at where none are named.
_FILTERS = 8


def run(options: argparse.Namespace) -> int:
    """Draws filters or what excites them; returns the exit code."""
    return _top(options) if options.command == "top" else _filters(options)


def _filters(options: argparse.Namespace) -> int:
    out = _drawing(options.out)
    model = load(options.model, options.imports).keras_model
    sort = None if options.sort == "none" else options.sort
    found = filter_kernels(model, options.layer, sort)
    replace_whole(out, encoded(found.draw("common" if options.common else "filter")))
    tell(f"{len(found.order)} filters of {found.layer}. See {out}")
    return 0


def _top(options: argparse.Namespace) -> int:
    chosen = None if options.filters is None else _numbers(options.filters)
    out = _drawing(options.out)
    paths = find_pictures(options.images)
    network = load(options.model, options.imports)
    taken = intake(network, options.preprocess, options.size)
    progress = Progress(len(paths), shown=not options.quiet)
    stream = PictureStream(paths, taken, options.batch_size, progress)
    if chosen is None:
        explainer = Explainer(network.keras_model, layer=options.layer, methods=["gradcam"])
        chosen = list(range(min(_FILTERS, explainer.features(taken.blank()).shape[-1])))
    found = _searched(network.keras_model, stream, options, chosen)
    progress.clear()
    replace_whole(out, encoded(found.draw(taken.preprocessing.undone)))
    replace_whole(out.with_suffix(".json"), _said(found, stream))
    failed = f"{len(stream.failures)} failed. " if stream.failures else ""
    tell(f"{len(stream.read)} pictures, {len(found)} filters of {found.layer}. {failed}See {out}, {out.stem}.json")
    return SOME_FAILED if stream.failures else 0


def _searched(model: Any, stream: PictureStream, options: argparse.Namespace, chosen: list[int]) -> TopActivations:
    try:
        return top_activations(model, stream, options.layer, chosen, options.top, options.batch_size)
    except ValueError as error:
        if stream.failures and not stream.read:
            raise CommandError("none of the pictures could be read.") from error
        raise


def _said(found: TopActivations, stream: PictureStream) -> Iterator[bytes]:
    activations = (
        as_json(
            {
                "filter": int(which),
                "path": stream.read[one.index],
                "picture": one.index,
                "activation": one.value if math.isfinite(one.value) else None,
                "cell": one.cell,
                "box": one.box,
            }
        )
        for which, row in zip(found.filters, found.activations, strict=True)
        for one in row
    )
    failures = (as_json({"path": path, "failure": failure}) for path, failure in stream.failures.items())
    header = {"layer": found.layer, "pictures": found.samples}
    return json_parts(header, {"activations": activations, "failures": failures})


def _drawing(text: str) -> Path:
    """The file to draw to; its folder has to be there."""
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise CommandError(f"--out must be a .png file. Received: {text!r}.")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise CommandError(f"--out must be a file in a folder that is there. Received: {text!r}.")
    try:
        check_writable(path.absolute().parent)
    except OSError as error:
        raise CommandError(f"--out cannot be written to: {error.strerror}: {text!r}.") from error
    return path


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise CommandError(f"--filters must be numbers with commas between. Received: {text!r}. Candidates: 0,3,7.")
    return [int(part) for part in parts]
