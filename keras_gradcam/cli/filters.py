"""``keras-gradcam filters`` and ``top``: draws learned filters, and the pictures that excite filters most."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from typing import Any

from ..attribution.explainer import Explainer
from ..drawing.pixels import encoded
from ..files import replace_whole
from ..filters.kernels import filter_kernels
from ..filters.top_activations import TopActivations, top_activations
from ..pictures.folders import find_pictures
from .console import Progress, print_result
from .errors import SOME_FAILED, CommandError
from .files import as_json, check_png, json_parts
from .inputs.models import load, spec_of
from .inputs.streams import PictureStream

# Without --filters the first ones are searched for, up to this number.
_DEFAULT_FILTERS = 8


def run(options: argparse.Namespace) -> int:
    """Draws filters or what excites them; returns the exit code."""
    return _top(options) if options.command == "top" else _filters(options)


def _filters(options: argparse.Namespace) -> int:
    out = check_png(options.out)
    model = load(options.model, options.imports).keras_model
    sort = None if options.sort == "none" else options.sort
    kernels = filter_kernels(model, options.layer, sort)
    replace_whole(out, encoded(kernels.draw("common" if options.common else "filter")))
    print_result(f"{len(kernels.order)} filters of {kernels.layer}. See {out}")
    return 0


def _top(options: argparse.Namespace) -> int:
    filters = None if options.filters is None else _read_numbers(options.filters)
    out = check_png(options.out)
    paths = find_pictures(options.images)
    network = load(options.model, options.imports)
    spec = spec_of(network, options)
    progress = Progress(len(paths), shown=not options.quiet)
    stream = PictureStream(paths, spec, options.batch_size, progress)
    if filters is None:
        explainer = Explainer(network.keras_model, layer=options.layer, methods=["gradcam"])
        filters = list(range(min(_DEFAULT_FILTERS, explainer.features(spec.blank()).shape[-1])))
    activations = _search(network.keras_model, stream, options, filters)
    progress.clear()
    replace_whole(out, encoded(activations.draw(spec.preprocessing.undo)))
    replace_whole(out.with_suffix(".json"), _json(activations, stream))
    failed = f"{len(stream.failures)} failed. " if stream.failures else ""
    print_result(
        f"{len(stream.read)} pictures, {len(activations)} filters of {activations.layer}. "
        f"{failed}See {out}, {out.stem}.json"
    )
    return SOME_FAILED if stream.failures else 0


def _search(model: Any, stream: PictureStream, options: argparse.Namespace, filters: list[int]) -> TopActivations:
    try:
        return top_activations(model, stream, options.layer, filters, options.top, options.batch_size)
    except ValueError as error:
        if stream.failures and not stream.read:
            raise CommandError("none of the pictures could be read.") from error
        raise


def _json(activations: TopActivations, stream: PictureStream) -> Iterator[bytes]:
    """Yields the file beside the drawing: which cell of which picture excites which filter."""
    entries = (
        as_json(
            {
                "filter": int(channel),
                "path": stream.read[activation.index],
                "picture": activation.index,
                "activation": activation.value if math.isfinite(activation.value) else None,
                "cell": activation.cell,
                "box": activation.box,
            }
        )
        for channel, row in zip(activations.filters, activations.activations, strict=True)
        for activation in row
    )
    failures = (as_json({"path": path, "failure": failure}) for path, failure in stream.failures.items())
    header = {"layer": activations.layer, "pictures": activations.samples}
    return json_parts(header, {"activations": entries, "failures": failures})


def _read_numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise CommandError(f"--filters must be numbers with commas between. Received: {text!r}. Candidates: 0,3,7.")
    return [int(part) for part in parts]
