"""Reads results of data sets back: rows by id or by question, explanations, overlays, contact sheets."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..attribution.explanation import Explained, Explanation, build_frame
from ..drawing.class_names import class_name
from ..drawing.overlays import overlay
from ..drawing.panels import Frame, overview
from ..drawing.pixels import StyleLike, as_style, encoded
from ..errors import (
    ArgumentError,
    PictureError,
    check_flag,
    check_list,
    check_path,
    check_type,
    check_whole_number,
)
from ..extras import import_pyarrow
from ..grids import Placement
from ..pictures.decoding import Picture, decode
from ..pictures.depth import Range
from ..pictures.reading import read_file
from .columns import FAILURE, ID, SCALE
from .description import read_description
from .plan import Plan
from .queries import Query, answer, read_query
from .shards import open_shard, read_table

#: A folder, or id of a row to its picture: a path, encoded bytes, or pixels, uint8 (H, W, C).
Pictures = str | os.PathLike[str] | Callable[[str], Any] | Mapping[str, Any]

# The longer side of a picture that is drawn on.
_DRAWN = 512


def open_results(path: str | os.PathLike[str], pictures: Pictures | None = None) -> Results:
    """Opens the rows that :func:`explain_dataset` wrote, without reading them.

    Args:
        path: The folder.
        pictures: Where to find the pictures of rows whose ids are no paths, or not any more: a folder, in which as much
            of the path is looked for as there is; a function of an id; or a dict.

    Returns:
        All :class:`Results`.

    Raises:
        ArgumentError: If the folder holds no results.
        ImportError: If pyarrow is missing.
    """
    folder = Path(check_path("path", path)).expanduser()
    description = read_description(folder)
    import_pyarrow()
    files = sorted(folder.glob("part-*.parquet"))
    lengths = [open_shard(file).metadata.num_rows for file in files]
    return Results(description, files, np.cumsum([0, *lengths]), np.arange(sum(lengths)), pictures)


class Results:
    """Rows of results, one for each picture; only what is asked for is read. Use :func:`open_results` to get them.

    Indexing by an id, a list of ids or a slice gives ``Results`` of these rows.

    Args:
        description: What all rows have in common.
        files: Parquet files.
        offsets: The number of rows before each file, and of all.
        rows: Numbers of these rows, in their order.
        pictures: See :func:`open_results`.

    Attributes:
        plan: Layer, target and the shapes of maps.
        class_names: Number to name of the classes.
    """

    def __init__(
        self,
        description: Mapping[str, Any],
        files: Sequence[Path],
        offsets: np.ndarray,
        rows: np.ndarray,
        pictures: Pictures | None = None,
    ) -> None:
        self._description, self._files, self._offsets, self._rows = description, files, offsets, rows
        self._pictures = pictures
        self.plan = Plan.from_json(description["plan"])
        self.class_names = {int(number): str(name) for number, name in description["class_names"].items()}

    # --- rows -------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        if not self._files:
            return []
        return list(open_shard(self._files[0]).schema_arrow.names)

    @property
    def ids(self) -> list[str]:
        """The ids of these rows."""
        return self.table([ID])[ID].to_pylist()

    def table(self, columns: Sequence[str] | None = None) -> Any:
        """Returns columns of these rows as a pyarrow table; ``.to_pandas()`` makes a data frame of it.

        Args:
            columns: Names; by default all but maps and embeddings.

        Raises:
            ArgumentError: If there is no such column.
        """
        pyarrow = import_pyarrow()
        known = self.columns
        if columns is None:
            names = [name for name in known if name not in (*self.plan.maps, "embedding")]
        else:
            names = list(check_list("columns", columns, "be a list of names"))
        unknown = [name for name in names if not isinstance(name, str) or (known and name not in known)]
        if unknown:
            raise ArgumentError(
                "columns", "name columns of the results", repr(unknown[0]), [repr(name) for name in known]
            )
        parts, order = [], []
        which = np.searchsorted(self._offsets, self._rows, side="right") - 1
        for number in np.unique(which):
            positions = np.flatnonzero(which == number)
            rows = self._rows[positions] - self._offsets[number]
            parts.append(read_table(self._files[number], names).take(pyarrow.array(rows)))
            order.append(positions)
        if not parts:
            return pyarrow.table({name: pyarrow.array([], pyarrow.string()) for name in names})
        whole = pyarrow.concat_tables([part.replace_schema_metadata() for part in parts], promote_options="permissive")
        return whole.take(pyarrow.array(np.argsort(np.concatenate(order))))

    def __getitem__(self, index: str | Sequence[str] | slice) -> Results:
        if isinstance(index, slice):
            return self._subset(np.arange(len(self))[index])
        wanted = [index] if isinstance(index, str) else list(index)
        pyarrow = import_pyarrow()
        found = pyarrow.compute.index_in(
            pyarrow.array(wanted, pyarrow.string()), value_set=self.table([ID])[ID].combine_chunks()
        ).to_pylist()
        for text, row in zip(wanted, found, strict=True):
            if row is None:
                raise ArgumentError("id", "name a row", repr(text), [repr(known) for known in self[:3].ids])
        return self._subset(np.array(found, np.int64))

    def find(self, query: str, limit: int | None = None) -> Results:
        """Answers a question about these rows.

        Args:
            query: "wrong and confident", "unsure", "lowest mass inside", "right but outside", "narrowest focus",
                "widest focus", "weakest map", "lowest score" or "highest score".
            limit: The largest number of rows.

        Returns:
            The rows, in the order that the question asks for.

        Raises:
            ArgumentError: If there is no such question, or a column is missing for it.
        """
        return self._answered(read_query(query), limit)

    def sort(self, column: str, descending: bool = False, limit: int | None = None) -> Results:
        """Returns these rows in the order of a column of numbers; rows without a value are left out.

        Raises:
            ArgumentError: If there is no such column, or it has no numbers.
        """
        check_type("column", column, str, "name a column of the results")
        check_flag("descending", descending)
        if self.columns and column not in self.columns:
            raise ArgumentError("column", "name a column of the results", repr(column), list(map(repr, self.columns)))
        every = Query((column,), lambda values: np.ones(len(values[column]), bool), column, descending)
        return self._answered(every, limit)

    def _answered(self, query: Query, limit: int | None) -> Results:
        if limit is not None:
            check_whole_number("limit", limit, 1)
        known = self.columns
        table = self.table([name for name in query.columns if name in known])
        values = {name: _as_numbers(name, table[name]) for name in table.column_names}
        return self._subset(answer(query, values)[:limit])

    @property
    def failures(self) -> dict[str, str]:
        """Id of each picture that could not be explained, to what was wrong with it."""
        table = self.table([ID, FAILURE])
        rows = zip(table[ID].to_pylist(), table[FAILURE].to_pylist(), strict=True)
        return {name: failure for name, failure in rows if failure is not None}

    def _subset(self, positions: np.ndarray) -> Results:
        rows = self._rows[positions]
        return Results(self._description, self._files, self._offsets, rows, self._pictures)

    def __repr__(self) -> str:
        return f"Results({len(self)} rows, {', '.join(self.columns)})"

    # --- explanations -----------------------------------------------------------------------------------------------

    def explanation(self, pictures: bool = True) -> Explanation:
        """Returns these rows as an :class:`keras_gradcam.Explanation`.

        Its maps have three digits; of its predictions nothing is kept but the classes.

        Args:
            pictures: Whether to read the pictures too, resized as the model takes them, values from 0 to 255.

        Raises:
            ArgumentError: If a picture cannot be found, or there are no rows, or some that failed.
        """
        table = self._explained_rows([*self.plan.maps, *(name + SCALE for name in self.plan.maps)])
        maps = {
            name: _as_maps(table[name], shape) * _as_numbers(name, table[name + SCALE]).reshape(-1, *[1] * len(shape))
            for name, shape in self.plan.maps.items()
        }
        classes = _as_numbers("class", table["class"]) if "class" in table.column_names else np.array([np.nan])
        return Explanation(
            scores=_as_numbers("score", table["score"]).astype(np.float32),
            predictions=None,
            classes=None if np.isnan(classes).any() else classes.astype(np.int64),
            maps={name: array.astype(np.float32) for name, array in maps.items()},
            images=np.stack([picture.pixels for picture in self._read_pictures(table, 1)]) if pictures else None,
            explained=Explained(self.plan.layer, self.plan.target, self.plan.quantity),
            placement=None if self.plan.spans is None else Placement((0, 1), self.plan.spans),
        )

    def overlays(self, style: StyleLike = None) -> list[np.ndarray]:
        """Lays the first map on the layer's grid on each picture, uint8 (H, W, 3), up to 512 pixels large.

        Raises:
            ArgumentError: As :meth:`explanation` does, and if there is no such map.
        """
        drawn = []
        for frame in self._frames():
            if frame.gradcam is None:
                raise ArgumentError("methods", "name one with a map on the layer's grid", ", ".join(self.plan.maps))
            drawn.append(overlay(frame.picture, frame.gradcam, frame.vmax, as_style(style), frame.spans))
        return drawn

    def sheet(self, title: str = "", style: StyleLike = None) -> np.ndarray:
        """Draws a contact sheet: an overlay of each row with what the model says, uint8 (H, W, 3).

        Args:
            title: Written above.
            style: How maps are drawn. Each map has a scale of its own.

        Raises:
            ArgumentError: As :meth:`explanation` does.
        """
        return overview(self._frames(), title, as_style(style))

    def _explained_rows(self, columns: Sequence[str]) -> Any:
        """Returns columns beside those that every explanation needs; raises ArgumentError if there is nothing."""
        known = self.columns
        numbers = ("class", "score", "probability", "predicted", "confidence", "mass_inside")
        beside = [name for name in (*numbers, "label") if name in known]
        table = self.table([ID, FAILURE, *beside, *columns])
        for name in {*beside} - {"label"}:
            _as_numbers(name, table[name])
        failed = [text for text in table[FAILURE].to_pylist() if text is not None]
        if not len(table) or failed:
            received = f"{len(failed)} of {len(table)} that failed ({failed[0]})" if failed else "none"
            raise ArgumentError("results", "hold rows that were explained", received, "results.find(...)")
        return table

    def _frames(self) -> list[Frame]:
        table = self._explained_rows(list(self.plan.maps))
        maps = {name: _as_maps(table[name], shape) for name, shape in self.plan.maps.items()}
        rows = table.drop_columns(list(self.plan.maps)).to_pylist()
        frames = []
        for index, (row, picture) in enumerate(zip(rows, self._read_pictures(table, _DRAWN), strict=True)):
            frame = build_frame(
                {name: array[index] for name, array in maps.items()}, picture.shown, spans=self.plan.spans
            )
            label = row.get("label")
            wrong = label is not None and row.get("predicted") is not None and label != row["predicted"]
            frames.append(replace(frame, short=tuple(self._caption(row)), wrong=wrong))
        return frames

    def _caption(self, row: Mapping[str, Any]) -> list[str]:
        """Returns the lines below a picture of a contact sheet."""
        lines = [os.path.basename(row[ID].rstrip("/")) or row[ID]]
        predicted, explained, label = row.get("predicted"), row.get("class"), row.get("label")
        if predicted is not None:
            lines.append(f"{class_name(predicted, self.class_names)} {row['confidence']:.2f}")
        if explained is not None and explained != predicted:
            lines.append(f"explained: {class_name(explained, self.class_names)} {row['probability']:.2f}")
        if isinstance(label, int) and label not in (predicted, explained):
            lines.append(f"label: {class_name(label, self.class_names)}")
        numbers = f"{self.plan.quantity} {row['score']:.3g}"
        inside = row.get("mass_inside")
        return [*lines, numbers if inside is None else f"{numbers}, inside {inside:.2f}"]

    def _read_pictures(self, table: Any, largest: int) -> list[Picture]:
        settings = self._description["settings"]
        size, channels = tuple(settings["size"]), int(self._description["channels"])
        values = None if settings["value_range"] is None else tuple(settings["value_range"])
        return [self._read_picture(name, size, channels, largest, values) for name in table[ID].to_pylist()]

    def _read_picture(
        self, name: str, size: tuple[int, int], channels: int, largest: int, values: Range | None
    ) -> Picture:
        """Reads the picture of a row.

        Raises:
            ArgumentError: If there is none.
        """
        try:
            found: Any = name
            if isinstance(self._pictures, (str, os.PathLike)):
                found = _relocated(Path(self._pictures).expanduser(), name)
            elif self._pictures is not None:
                found = self._pictures(name) if callable(self._pictures) else self._pictures[name]
            if isinstance(found, np.ndarray):
                found = _encoded(found)
            content = found if isinstance(found, bytes) else read_file(os.fspath(found))
            return decode(content, size, channels, largest, values)
        except (PictureError, LookupError, TypeError) as error:
            raise ArgumentError(
                "pictures",
                "give the picture of every row",
                f"{name!r}, which {error}" if isinstance(error, PictureError) else f"{name!r} ({error!r})",
                "`pictures`, the folder where they lie",
            ) from error


def _relocated(folder: Path, name: str) -> str:
    """Returns the picture in a folder whose path ends as an id does, as long an end as there is.

    Raises:
        LookupError: If there is none.
    """
    parts = Path(name).parts
    for start in range(1 if os.path.isabs(name) else 0, len(parts)):
        path = folder.joinpath(*parts[start:])
        if path.is_file():
            return str(path)
    raise LookupError(f"not in {str(folder)!r}")


def _encoded(pixels: np.ndarray) -> bytes:
    """Encodes pixels, so that they take the way of all pictures."""
    grey = pixels[..., None] if pixels.ndim == 2 else pixels
    return encoded(np.ascontiguousarray(np.repeat(grey, 3, axis=2) if grey.shape[2] == 1 else grey))


def _as_numbers(name: str, column: Any) -> np.ndarray:
    """Returns a column as float64, NaN where a value is missing."""
    try:
        return np.asarray(column.to_numpy(), np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError("column", "hold numbers", f"{name!r}, of type {column.type}") from error


def _as_maps(column: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a column of lists as arrays, float32 (N, *shape)."""
    pyarrow = import_pyarrow()
    is_list = pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type)
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False) if is_list else np.empty(0)
    if len(flat) != len(column) * math.prod(shape) or flat.dtype.kind != "f":
        raise ArgumentError("path", f"hold maps of shape {shape}, as its description says", "files with others")
    return flat.reshape(-1, *shape).astype(np.float32)
