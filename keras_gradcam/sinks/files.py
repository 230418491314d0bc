"""Pictures in a folder."""

from __future__ import annotations

from pathlib import Path

from ..render import Style, encoded, overview
from .base import Record


class FileSink:
    """Keeps ``overview.png`` in a folder: all probes at the latest logged epoch, replaced whole.

    Args:
        directory: Any folder; made when needed.
        style: How maps are drawn.
    """

    def __init__(self, directory: str, style: Style | None = None) -> None:
        self._directory = Path(directory)
        self._style = style or Style()

    def prepare(self) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            probe = self._directory / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ValueError(
                f"`save_dir` must be a folder that can be written to. Received: {str(self._directory)!r} ({error})."
            ) from error

    def write(self, record: Record) -> None:
        path = self._directory / "overview.png"
        unfinished = path.with_suffix(".tmp")
        unfinished.write_bytes(encoded(overview(record.frames, record.title, self._style)))
        unfinished.replace(path)

    def close(self) -> None:
        pass
