"""``keras-gradcam show``: a contact sheet of results that lie in Parquet files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from ..datasets.results import Results, open_results
from ..drawing.pixels import Style, encoded
from ..files import replace_whole
from .console import print_result
from .errors import CommandError
from .files import check_png


def run(options: argparse.Namespace) -> int:
    """Draws a contact sheet; returns the exit code."""
    out = check_png(options.out)
    results = open_results(options.results, options.pictures)
    shown, title = _chosen(results, options)
    if not len(shown):
        raise CommandError(f"none of the {len(results)} pictures is such a one.")
    replace_whole(out, encoded(np.asarray(shown.sheet(title, Style(colormap=options.colormap)))))
    print_result("\n".join(shown.ids))
    print_result(f"{len(shown)} of {len(results)} pictures. See {out}")
    return 0


def _chosen(results: Results, options: argparse.Namespace) -> tuple[Results, str]:
    """Returns the rows that the options ask for, and a title."""
    if options.ids is not None:
        text = sys.stdin.read() if options.ids == "-" else Path(options.ids).expanduser().read_text("utf-8")
        ids = [line.strip().strip('"') for line in text.splitlines() if line.strip()]
        return results[ids][: options.limit], f"{len(ids)} chosen"
    if options.sort is not None:
        order = "largest" if options.descending else "smallest"
        return results.sort(options.sort, options.descending, options.limit), f"{order} {options.sort}"
    query = options.query or ("unsure" if "confidence" in results.columns else "lowest score")
    return results.find(query, options.limit), query.replace("-", " ")
