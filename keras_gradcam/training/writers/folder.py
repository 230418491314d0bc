"""Pictures and raw maps in a folder."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from ...drawing.filmstrips import animation, draw_filmstrip
from ...drawing.panels import overview
from ...drawing.pixels import Style, encoded
from ...errors import ArgumentError
from ...files import check_writable, replace_whole
from ...reid.figures import rank_figure
from .base import LogEntry, Run, Summary


class FolderWriter:
    """Keeps a folder: ``overview.png`` (and ``ranking.png``) of the latest logged epoch, at the end the run as a whole.

    At the end: ``filmstrip_00.png`` and ``probe_00.gif`` per probe, ``run.npz`` (epochs, raw maps, numbers),
    ``report.md``, and last ``manifest.json`` with the names of all files. Each file is replaced whole: an interrupted
    run leaves complete files, and no manifest of files that are not there.

    Args:
        directory: Any folder; made when needed.
        style: How maps are drawn.
    """

    def __init__(self, directory: str, style: Style | None = None) -> None:
        self._directory = Path(directory)
        self._style = style or Style()
        self._ranked = False

    def prepare(self, run: Run) -> None:
        self._ranked = False
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            check_writable(self._directory)
        except OSError as error:
            raise ArgumentError(
                "save_dir", "be a folder that can be written to", f"{str(self._directory)!r} ({error})"
            ) from error

    def write(self, entry: LogEntry) -> None:
        self._put("overview.png", encoded(overview(entry.frames, entry.record.title, self._style)))
        if entry.rankings:
            self._put("ranking.png", encoded(rank_figure(entry.rankings, self._style)))
            self._ranked = True

    def summarize(self, summary: Summary) -> None:
        files = {"report.md": summary.report.encode()}
        for index, filmstrip in enumerate(summary.filmstrips):
            files[f"filmstrip_{index:02d}.png"] = encoded(draw_filmstrip(filmstrip, self._style))
            files[f"probe_{index:02d}.gif"] = animation(filmstrip, self._style)
        history = summary.history
        arrays: dict[str, np.ndarray] = {"epochs": history.epochs, **history.numbers, **history.totals}
        if isinstance(history.partner_maps, np.ndarray):
            arrays["partner_maps"] = history.partner_maps
        if isinstance(history.maps, np.ndarray):
            arrays["maps"] = history.maps
        if history.start is not None and history.start.maps is not None:
            arrays["start_maps"] = history.start.maps
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        files["run.npz"] = buffer.getvalue()
        for name, content in files.items():
            self._put(name, content)
        manifest = {
            "epochs": history.epochs.tolist(),
            "files": sorted([*files, "overview.png", *(["ranking.png"] if self._ranked else [])]),
        }
        self._put("manifest.json", json.dumps(manifest, indent=1).encode())

    def close(self) -> None:
        pass

    def _put(self, name: str, content: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)  # it may have been removed since
        replace_whole(self._directory / name, content)
