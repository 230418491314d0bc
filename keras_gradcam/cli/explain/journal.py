"""What has been done in a folder: a journal while it is being done, a manifest when everything is.

The journal gets a line per picture, after its files are there: whatever ends the program, the next run knows what is
missing. At the end the manifest takes its place.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ...files import replace_whole
from ..errors import CommandError
from ..files import as_json, json_parts, remove_unfinished

MANIFEST, JOURNAL = "manifest.json", "manifest.jsonl.partial"

_KEYS = ("made_with", "model", "settings")


@dataclass(frozen=True)
class Known:
    """What is known of a picture from before.

    Attributes:
        name: Of its results.
        digest: SHA-256 of the file that was explained; None if none was.
        failure: Why it was not.
        place: Where its line begins in the journal.
    """

    name: str
    digest: str | None = None
    failure: str | None = None
    place: int = -1


class Journal:
    """The journal of one folder, which no other process may write to meanwhile.

    Args:
        folder: Made when needed.
        header: What the results are made with: "made_with", "model" and "settings", ready for JSON.
        overwrite: Whether to remove results that were made with something else, rather than to refuse.

    Raises:
        CommandError: If the folder holds results of something else, or is in use.
        OSError: If it cannot be written to.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], overwrite: bool = False) -> None:
        self._folder, self._header = folder, {key: header[key] for key in _KEYS}
        self._file: BinaryIO | None = None
        self._end = 0
        self.known: dict[str, Known] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder)
        try:
            self._read(overwrite)
        except BaseException:
            self.close()
            raise

    # --- reading ----------------------------------------------------------------------------------------------------

    def _read(self, overwrite: bool) -> None:
        before, entries = self._found()
        if before is None:
            return
        remove_unfinished(self._folder)
        if overwrite:
            self._remove(entry for _, entry in entries)
            return
        differing = _differences(before, self._header)
        if differing:
            raise CommandError(
                f"--out {str(self._folder)!r} holds results that were made otherwise ({'; '.join(differing)}). "
                "Candidates: another --out, or --overwrite to remove them and start anew."
            )
        for place, entry in entries:
            self._note(entry, place)

    def _found(self) -> tuple[Mapping[str, Any] | None, Iterator[tuple[int, dict[str, Any]]]]:
        """The header of what is there, or None, and its entries."""
        if (self._folder / JOURNAL).exists():
            lines = self._lines()
            header = next(lines, (0, {}))[1]
            if not all(key in header for key in _KEYS):
                raise CommandError(f"{str(self._folder / JOURNAL)!r} was not written by keras-gradcam.")
            return header, lines
        if (self._folder / MANIFEST).exists():
            manifest = self._manifest()
            return manifest, ((-1, entry) for entry in (*manifest["pictures"], *manifest["failures"]))
        return None, iter(())

    def _manifest(self) -> dict[str, Any]:
        try:
            manifest = json.loads((self._folder / MANIFEST).read_bytes())
            if all(key in manifest for key in (*_KEYS, "pictures", "failures")):
                return dict(manifest)
        except (TypeError, ValueError):
            pass
        raise CommandError(
            f"{str(self._folder / MANIFEST)!r} was not written by keras-gradcam and would be replaced. "
            "Candidates: another --out."
        )

    def _lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The lines of the journal with their places, up to one that was torn by a killed process."""
        with (self._folder / JOURNAL).open("rb") as file:
            place = 0
            for line in file:
                try:
                    entry = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    entry = None
                if not isinstance(entry, dict):
                    break
                yield place, entry
                place += len(line)
        self._end = place

    def _note(self, entry: Mapping[str, Any], place: int) -> None:
        for path, name in entry.get("begun", {}).items():
            self.known.setdefault(path, Known(name))
        if "path" in entry:
            self.known[entry["path"]] = Known(entry["name"], entry.get("sha256"), entry.get("failure"), place)

    def _remove(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Removes results, and at last the lists of them."""
        for entry in entries:
            for name in [*entry.get("files", ()), *entry.get("begun_files", ())]:
                if Path(name).name == name:  # a list from elsewhere must not reach out of the folder
                    (self._folder / name).unlink(missing_ok=True)
        for name in (MANIFEST, JOURNAL):
            (self._folder / name).unlink(missing_ok=True)

    # --- writing ----------------------------------------------------------------------------------------------------

    def begin(self, names: Mapping[str, str], files: Iterable[str]) -> None:
        """Notes what is about to be written, so that the next run knows these files for our own.

        Args:
            names: Path of each picture to the name of its results.
            files: Of all of them.
        """
        self._append({"begun": dict(names), "begun_files": list(files)})

    def add(self, entry: Mapping[str, Any]) -> None:
        """Notes a picture whose files are written, or which failed.

        Args:
            entry: "path", "name" and either "failure" or "sha256" and "files"; and what else there is to say.
        """
        if "failure" in entry and self.known.get(entry["path"], Known("")).failure == entry["failure"]:
            return
        self._append(entry)

    def _append(self, entry: Mapping[str, Any]) -> None:
        if self._file is None:
            self._file = self._opened()
        place = self._file.tell()
        self._file.write(_line(entry))
        self._file.flush()
        self._note(entry, place)

    def _opened(self) -> BinaryIO:
        journal, manifest = self._folder / JOURNAL, self._folder / MANIFEST
        if journal.exists():
            file = journal.open("r+b")
            file.truncate(self._end)  # a torn line would spoil the one that follows it
            file.seek(self._end)
            return file
        entries = []
        if manifest.exists():
            found = self._manifest()
            entries = [*found["pictures"], *found["failures"]]
        replace_whole(journal, (_line(entry) for entry in (self._header, *entries)))
        # There is a manifest only where everything is done.
        manifest.unlink(missing_ok=True)
        for place, entry in self._lines():
            self._note(entry, place)
        file = journal.open("r+b")
        file.seek(0, os.SEEK_END)
        return file

    def finish(self, current: Iterable[str], files: Callable[[str], list[str]]) -> None:
        """Puts the manifest in the place of the journal, if anything was done.

        Pictures that were explained here before and are not among the present ones stay in it, as long as their files
        are there.

        Args:
            current: Paths of the present pictures.
            files: Name of results to their files.
        """
        if self._file is None and not (self._folder / JOURNAL).exists():
            if (self._folder / MANIFEST).exists():
                return
            self._file = self._opened()  # nothing but failures that were known
        now = set(current)
        done, failed = [], []
        for path in sorted(self.known):
            known = self.known[path]
            if known.digest is not None:
                if path in now or all((self._folder / name).exists() for name in files(known.name)):
                    done.append(known.place)
            elif known.failure is not None and path in now:
                failed.append(known.place)
        replace_whole(self._folder / MANIFEST, self._manifest_parts(done, failed))
        self._close_file()
        (self._folder / JOURNAL).unlink()

    def _manifest_parts(self, done: list[int], failed: list[int]) -> Iterator[bytes]:
        with (self._folder / JOURNAL).open("rb") as file:

            def lines(places: Iterable[int]) -> Iterator[bytes]:
                for place in places:
                    file.seek(place)
                    yield file.readline().rstrip(b"\n")

            yield from json_parts(self._header, {"pictures": lines(done), "failures": lines(failed)})

    def close(self) -> None:
        """Lets another process have the folder."""
        self._close_file()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _line(entry: Mapping[str, Any]) -> bytes:
    return as_json(entry) + b"\n"


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two headers do not share, in words; where a model and its code lie does not matter."""
    found = []
    if before["model"].get("sha256") != now["model"]["sha256"]:
        found.append(f"model: {before['model'].get('source')} of another content")
    old_code, new_code = _code(before), _code(now)
    old_names, new_names = ([name for name, _ in code] for code in (old_code, new_code))
    if old_names != new_names:
        found.append(f"import: {_short(old_names or None)}, not {_short(new_names or None)}")
    elif old_code != new_code:
        changed = sorted({name for name, _ in {*old_code} ^ {*new_code}})
        found.append(f"import: {', '.join(changed)} of another content")
    for part in ("settings", "made_with"):
        for key in sorted({*before[part], *now[part]}):
            old, new = before[part].get(key), now[part].get(key)
            if old != new:
                found.append(f"{key.replace('_', ' ')}: {_short(old)}, not {_short(new)}")
    return found


def _code(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and digests of the files of the user's own code."""
    return sorted((Path(path).name, digest) for path, digest in header["model"].get("imports", {}).items())


def _short(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"


def _locked(folder: Path) -> int | None:
    """A handle whose life is the lock's; None where there are no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise CommandError(f"another keras-gradcam is writing to {str(folder)!r}.") from error
    except OSError:  # a network file system without locks
        with contextlib.suppress(OSError):
            os.close(handle)
        return None
    return handle
