"""Queries and galleries in folders: pictures whose names tell identity and camera, or embeddings in Parquet files."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..attribution.inputs import check_model
from ..errors import ArgumentError, PictureError, check_path, check_type, in_one_line
from ..extras import import_pyarrow
from ..files import check_file
from ..pictures.folders import find_pictures
from ..pictures.reading import read_pictures
from ..pictures.spec import PictureSpec, picture_spec, warn_about_pixels

#: Finds identity and camera in the names of Market-1501's files: 0002_c1s1_000451_03.jpg.
MARKET_1501 = r"(?P<id>-?\d+)_c(?P<camera>\d+)"

# Pictures that are read at once.
_BATCH = 32


def read_folder(
    folder: str | os.PathLike[str],
    model: Any = None,
    *,
    pattern: str = MARKET_1501,
    preprocess: Any = None,
    size: Any = None,
) -> Any:
    r"""Returns the pictures or the embeddings in a folder as :func:`rank` takes them, with identities and cameras.

    Args:
        folder: Pictures, searched through; or the results of :func:`keras_gradcam.datasets.explain_dataset` with
            ``embedding=True``, whose columns "label" and "camera" are identities and cameras where there are such.
        model: The Keras model that will embed the pictures, whose input says how large they are.
        pattern: A regular expression with a group "id" and perhaps one "camera", looked for in the name of each file,
            or else in its path within the folder; by default that of Market-1501.
        preprocess: What is done to pixels, see :class:`keras_gradcam.datasets.ExplainBatch`.
        size: Height and width of pictures for a model that takes any.

    Returns:
        A :class:`PictureFolder`; or (embeddings, identities, cameras), or (embeddings, identities) without cameras.

    Raises:
        ArgumentError: If there are no pictures, or a name tells no identity.
    """
    folder = check_path("folder", folder)
    if holds_rows(folder):
        _, embeddings, identities, cameras = read_rows("folder", folder, pattern)
        return (embeddings, identities) if cameras is None else (embeddings, identities, cameras)
    if model is None:
        raise ArgumentError("model", "be given to read pictures for it", "None")
    check_model(model)
    spec = picture_spec(model, preprocess, size)
    warn_about_pixels(model, preprocess)
    return PictureFolder("folder", folder, spec, pattern)


class PictureFolder:
    """Pictures of a folder with identities and cameras, read a batch at a time and as often as needed.

    Pictures that cannot be read are left out, and warned of when they are met first.

    Args:
        name: The argument that errors are about.
        folder: It is searched through.
        spec: The pictures that the model takes.
        pattern: See :func:`read_folder`.

    Attributes:
        failures: Path of each picture that could not be read, to what is wrong with it.
    """

    def __init__(
        self, name: str, folder: str | os.PathLike[str], spec: PictureSpec, pattern: str = MARKET_1501
    ) -> None:
        self._all, self._identities, self._cameras = labelled_pictures(name, folder, pattern)
        self._spec = spec
        self.failures: dict[str, str] = {}

    @property
    def paths(self) -> list[str]:
        """The pictures, in the order in which they are read; known to be readable once they were."""
        return [path for path in self._all if path not in self.failures]

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        index = -1
        for pictures in read_pictures(self._all, self._spec, _BATCH):
            good, pixels = [], []
            for path, picture in pictures:
                index += 1
                if isinstance(picture, PictureError):
                    self._fail(path, picture)
                else:
                    good.append(index)
                    pixels.append(picture.pixels)
            if good:
                columns = [self._identities[good]] + ([] if self._cameras is None else [self._cameras[good]])
                yield (self._spec.preprocessing(np.stack(pixels).astype(np.float32)), *columns)

    def _fail(self, path: str, error: PictureError) -> None:
        if path not in self.failures:
            self.failures[path] = str(error)
            warnings.warn(f"{path!r} {error}, and is left out.", UserWarning, stacklevel=4)


def labelled_pictures(
    name: str, folder: str | os.PathLike[str], pattern: str
) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """Returns the pictures of a folder with the identities and cameras that their names tell.

    Raises:
        ArgumentError: If there are none, or a name tells no identity.
    """
    if not Path(folder).is_dir():
        raise ArgumentError(name, "be a folder", repr(os.fspath(folder)))
    paths = find_pictures([os.fspath(folder)], name=name)
    return (paths, *_labels(name, paths, os.path.abspath(folder), pattern))


def holds_rows(folder: str | os.PathLike[str]) -> bool:
    """Returns whether a folder holds results in Parquet files."""
    return next(Path(folder).glob("part-*.parquet"), None) is not None


def read_rows(
    name: str, folder: str | os.PathLike[str], pattern: str
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray | None]:
    """Returns ids, embeddings, float32 (N, D), identities and cameras of results; rows that failed are left out.

    Raises:
        ArgumentError: If there are no embeddings, or nothing tells identities.
    """
    ids: list[str] = []
    vectors: list[np.ndarray] = []
    columns: dict[str, list[np.ndarray]] = {"label": [], "camera": []}
    for path in sorted(Path(folder).glob("part-*.parquet")):
        table = _embedded_rows(name, path)
        if not len(table):
            continue
        ids += table["id"].to_pylist()
        flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        length = vectors[0].shape[1] if vectors else len(flat) // len(table)
        if flat.dtype.kind != "f" or len(flat) != len(table) * length:
            raise ArgumentError(name, "hold embeddings of one length", repr(str(path)))
        vectors.append(flat.astype(np.float32).reshape(len(table), length))
        for column in columns:
            if column in table.column_names:
                columns[column].append(table[column].to_numpy())
    if not vectors:
        raise ArgumentError(name, "hold embeddings", f"{os.fspath(folder)!r}, where every picture failed")
    if columns["label"]:
        cameras = np.concatenate(columns["camera"]) if columns["camera"] else None
        return ids, np.concatenate(vectors), np.concatenate(columns["label"]), cameras
    root = os.path.dirname(os.path.commonpath(ids)) if len(ids) > 1 else ""
    return (ids, np.concatenate(vectors), *_labels(name, ids, root, pattern))


def _embedded_rows(name: str, path: Path) -> Any:
    """Reads ids, embeddings, identities and cameras of a file of results, without the rows that failed.

    Raises:
        ArgumentError: If it is no such file, or has no embeddings.
    """
    pyarrow = import_pyarrow()
    try:
        check_file(path)
        known = pyarrow.parquet.read_schema(path).names
        wanted = [column for column in ("id", "embedding", "label", "camera") if column in known]
        table = pyarrow.parquet.read_table(path, columns=wanted)
    except (OSError, pyarrow.ArrowException) as error:
        raise ArgumentError(name, "hold rows that can be read", f"{str(path)!r} ({in_one_line(error)})") from error
    if not {"id", "embedding"} <= {*known}:
        received = f"{str(path)!r}, without any"
        raise ArgumentError(name, "hold embeddings", received, "embedding=True in explain_dataset")
    return table.filter(pyarrow.compute.is_valid(table["embedding"])).combine_chunks()


def _labels(name: str, paths: Sequence[str], root: str, pattern: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns identities and cameras that paths tell; None for cameras unless all tell one."""
    expression = _compiled(pattern)
    identities, cameras = [], []
    for path in paths:
        found = expression.search(os.path.basename(path)) or expression.search(os.path.relpath(path, root or "."))
        if found is None:
            raise ArgumentError(
                name,
                "hold pictures whose names tell an identity by the pattern",
                repr(os.path.basename(path)),
                [r"`pattern` '(?P<id>\d+)_cam(?P<camera>\d+)'", "a folder of pictures of people alone"],
            )
        camera = found.groupdict().get("camera")
        try:
            identities.append(int(found["id"]))
            cameras.append(None if camera is None else int(camera))
        except ValueError as error:
            raise ArgumentError(
                "pattern", "find numbers", f"{found.groupdict()} in {os.path.basename(path)!r}"
            ) from error
    have_cameras = None not in cameras
    return np.array(identities), np.array(cameras) if have_cameras else None


def _compiled(pattern: Any) -> re.Pattern[str]:
    check_type("pattern", pattern, str, "be a regular expression")
    candidates = r"'(?P<id>\d+)_cam(?P<camera>\d+)'"
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ArgumentError("pattern", "be a regular expression", f"{pattern!r} ({error})", candidates) from error
    if "id" not in expression.groupindex:
        raise ArgumentError("pattern", "have a group 'id', and may have one 'camera'", repr(pattern), candidates)
    return expression
