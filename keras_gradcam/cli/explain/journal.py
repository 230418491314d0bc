"""What a run of ``explain`` has done: a journal while it is going on, a manifest when everything is done.

The journal gets a line per picture after its files are written, so that the next run knows what is missing however this
one ends. At the end the manifest takes its place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ...datasets.description import describe_differences, shortened
from ...files import FileStatus, lock_folder, open_regular, remove_unfinished, replace_whole, unlock_folder
from ..errors import CommandError
from ..files import as_json, json_parts

MANIFEST, JOURNAL = "manifest.json", "manifest.jsonl.partial"

_KEYS = ("made_with", "model", "settings")


@dataclass(frozen=True)
class PictureRecord:
    """What the journal says about a picture.

    Attributes:
        name: The name of its results.
        digest: SHA-256 of the file that was explained; None if it was not explained.
        failure: Why it was not explained, or None.
        offset: Where its line begins in the journal.
        status: What tells of a file whether it was changed since, see :func:`keras_gradcam.files.file_status`; None
            if its content must be compared.
    """

    name: str
    digest: str | None = None
    failure: str | None = None
    offset: int = -1
    status: FileStatus | None = None


class Journal:
    """The journal of one folder, which no other process can write to at the same time.

    Args:
        folder: The folder, made when needed.
        header: What the results depend on: "made_with", "model" and "settings", ready for JSON.
        overwrite: Whether to remove existing results, rather than to raise an error if they depend on something else.

    Attributes:
        records: Path of each picture of this and earlier runs to its :class:`PictureRecord`.

    Raises:
        CommandError: If the folder holds results of something else, or is in use.
        OSError: If it cannot be written to.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], overwrite: bool = False) -> None:
        self._folder, self._header = folder, {key: header[key] for key in _KEYS}
        self._file: BinaryIO | None = None
        self._end = 0
        self.records: dict[str, PictureRecord] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder)
        try:
            self._read(overwrite)
        except BaseException:
            self.close()
            raise

    # --- reading ----------------------------------------------------------------------------------------------------

    def _read(self, overwrite: bool) -> None:
        header, entries = self._existing()
        if header is None:
            return
        remove_unfinished(self._folder)
        if overwrite:
            self._remove(entry for _, entry in entries)
            return
        differences = _differences(header, self._header)
        if differences:
            raise CommandError(
                f"--out {str(self._folder)!r} holds results that were made otherwise ({'; '.join(differences)}). "
                "Candidates: another --out, or --overwrite to remove them and begin again."
            )
        for offset, entry in entries:
            self._note(entry, offset)

    def _existing(self) -> tuple[Mapping[str, Any] | None, Iterator[tuple[int, dict[str, Any]]]]:
        """Returns the header of the results in the folder, or None, and their entries with offsets."""
        if (self._folder / JOURNAL).exists():
            lines = self._lines()
            header = next(lines, (0, {}))[1]
            if not _is_header(header):
                raise CommandError(f"{str(self._folder / JOURNAL)!r} was not written by keras-gradcam.")
            return header, self._checked(lines)
        if (self._folder / MANIFEST).exists():
            manifest = self._read_manifest()
            return manifest, self._checked((-1, entry) for entry in (*manifest["pictures"], *manifest["failures"]))
        return None, iter(())

    def _checked(self, entries: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields entries as they are; raises CommandError for one that this program cannot have written."""
        for offset, entry in entries:
            if not _is_entry(entry):
                raise CommandError(
                    f"{str(self._folder)!r} holds a manifest that was changed, or that keras-gradcam did not write. "
                    f"Received: {as_json(entry).decode(errors='replace'):.80}. Candidates: another --out."
                )
            yield offset, entry

    def _read_manifest(self) -> dict[str, Any]:
        try:
            with open_regular(self._folder / MANIFEST) as file:
                manifest = json.load(file)
            lists = [manifest[key] for key in ("pictures", "failures")]
            if _is_header(manifest) and all(isinstance(entries, list) for entries in lists):
                return dict(manifest)
        except (KeyError, RecursionError, TypeError, ValueError):
            pass
        raise CommandError(
            f"{str(self._folder / MANIFEST)!r} was not written by keras-gradcam and would be replaced. "
            "Candidates: another --out."
        )

    def _lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields the lines of the journal with their offsets, up to one that a killed process left unfinished."""
        with open_regular(self._folder / JOURNAL) as file:
            offset = 0
            for line in file:
                try:
                    entry = json.loads(line) if line.endswith(b"\n") else None
                except (RecursionError, ValueError):
                    entry = None
                if not isinstance(entry, dict):
                    break
                yield offset, entry
                offset += len(line)
        self._end = offset

    def _note(self, entry: Mapping[str, Any], offset: int) -> None:
        for path, name in entry.get("begun", {}).items():
            self.records.setdefault(path, PictureRecord(name))
        if "path" in entry:
            status = (entry["bytes"], entry["modified"]) if "modified" in entry else None
            record = PictureRecord(entry["name"], entry.get("sha256"), entry.get("failure"), offset, status)
            self.records[entry["path"]] = record

    def _remove(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Removes results, and finally the journal and the manifest."""
        for entry in entries:
            for name in [*entry.get("files", ()), *entry.get("begun_files", ())]:
                (self._folder / name).unlink(missing_ok=True)
        for name in (MANIFEST, JOURNAL):
            (self._folder / name).unlink(missing_ok=True)

    # --- writing ----------------------------------------------------------------------------------------------------

    def begin(self, names: Mapping[str, str], files: Iterable[str]) -> None:
        """Notes files that are about to be written, so that the next run knows that this program wrote them.

        Args:
            names: Path of each picture to the name of its results.
            files: The files of all of them.
        """
        self._append({"begun": dict(names), "begun_files": list(files)})

    def add(self, entry: Mapping[str, Any]) -> None:
        """Notes a picture whose files are written, or which failed.

        Args:
            entry: "path", "name" and either "failure" or "sha256" and "files"; other keys are kept as they are.
        """
        record = self.records.get(entry["path"])
        if "failure" in entry and record is not None and record.failure == entry["failure"]:
            return
        self._append(entry)

    def _append(self, entry: Mapping[str, Any]) -> None:
        if self._file is None:
            self._file = self._open()
        offset = self._file.tell()
        self._file.write(_line(entry))
        self._file.flush()
        self._note(entry, offset)

    def _open(self) -> BinaryIO:
        """Opens the journal at its end; begins it with the entries of the manifest, which it takes the place of."""
        journal, manifest = self._folder / JOURNAL, self._folder / MANIFEST
        if journal.exists():
            file = open_regular(journal, "r+b")
            file.truncate(self._end)  # a torn line would spoil the one that follows it
            file.seek(self._end)
            return file
        entries = []
        if manifest.exists():
            existing = self._read_manifest()
            entries = [*existing["pictures"], *existing["failures"]]
        replace_whole(journal, (_line(entry) for entry in (self._header, *entries)))
        # There is a manifest only where everything is done.
        manifest.unlink(missing_ok=True)
        for offset, entry in self._lines():
            self._note(entry, offset)
        file = open_regular(journal, "r+b")
        file.seek(0, os.SEEK_END)
        return file

    def finish(self, current: Iterable[str], files: Callable[[str], list[str]]) -> None:
        """Replaces the journal by the manifest, if anything was done.

        Pictures of earlier runs that are not among the current ones stay in it, as long as their files exist.

        Args:
            current: Paths of the current pictures.
            files: Returns the files of results, given their name.
        """
        if self._file is None and not (self._folder / JOURNAL).exists():
            if (self._folder / MANIFEST).exists():
                return
            self._file = self._open()  # there were only failures, all of them noted before
        now = set(current)
        done, failed = [], []
        for path in sorted(self.records):
            record = self.records[path]
            if record.digest is not None:
                if path in now or all((self._folder / file).exists() for file in files(record.name)):
                    done.append(record.offset)
            elif record.failure is not None and path in now:
                failed.append(record.offset)
        replace_whole(self._folder / MANIFEST, self._manifest_parts(done, failed))
        self._close_file()
        (self._folder / JOURNAL).unlink()

    def _manifest_parts(self, done: list[int], failed: list[int]) -> Iterator[bytes]:
        with open_regular(self._folder / JOURNAL) as file:

            def lines(offsets: Iterable[int]) -> Iterator[bytes]:
                for offset in offsets:
                    file.seek(offset)
                    yield file.readline().rstrip(b"\n")

            yield from json_parts(self._header, {"pictures": lines(done), "failures": lines(failed)})

    def close(self) -> None:
        """Closes the journal and unlocks the folder."""
        self._close_file()
        unlock_folder(self._lock)
        self._lock = None

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_header(value: Any) -> bool:
    """Returns whether a value read back has what results depend on, in the types that this program writes."""
    if not isinstance(value, dict) or not all(isinstance(value.get(key), dict) for key in _KEYS):
        return False
    return _is_map_of_text(value["model"].get("imports", {}))


def _is_entry(value: Any) -> bool:
    """Returns whether a value read back is an entry that this program can have written.

    Names of files lead to nowhere outside the folder: somebody else may have written the manifest.
    """
    if not isinstance(value, dict):
        return False
    begun, lists = value.get("begun", {}), [value.get("files", []), value.get("begun_files", [])]
    if not _is_map_of_text(begun) or not all(isinstance(names, list) for names in lists):
        return False
    texts = [value[key] for key in ("path", "sha256", "failure") if key in value]
    if not all(isinstance(text, str) for text in texts):
        return False
    numbers = [value.get("bytes", 0), value.get("modified", 0)]
    if not all(type(number) is int for number in numbers) or ("bytes" in value) != ("modified" in value):
        return False
    names = [*begun.values(), *lists[0], *lists[1], *([value.get("name")] if "path" in value else [])]
    return all(map(_is_file_name, names))


def _is_map_of_text(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and Path(value).name == value != "" and not {"/", "\\", "\0"} & set(value)


def _line(entry: Mapping[str, Any]) -> bytes:
    return as_json(entry) + b"\n"


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describes the differences of two headers; the paths of a model and its code do not count."""
    differences = []
    if before["model"].get("sha256") != now["model"]["sha256"]:
        differences.append(f"model: {before['model'].get('source')} of another content")
    old_code, new_code = _code(before), _code(now)
    old_names, new_names = ([name for name, _ in code] for code in (old_code, new_code))
    if old_names != new_names:
        differences.append(f"import: {shortened(old_names or None)}, not {shortened(new_names or None)}")
    elif old_code != new_code:
        changed = sorted({name for name, _ in {*old_code} ^ {*new_code}})
        differences.append(f"import: {', '.join(changed)} of another content")
    return differences + describe_differences(before, now, ("settings", "made_with"))


def _code(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns names and digests of the files of the user's own code."""
    return sorted((Path(path).name, digest) for path, digest in header["model"].get("imports", {}).items())


def _lock(folder: Path) -> int | None:
    """Locks a folder; raises CommandError if another process has."""
    try:
        return lock_folder(folder)
    except BlockingIOError as error:
        raise CommandError(f"another keras-gradcam is writing to {str(folder)!r}.") from error
