"""Columns of a data set: which hold pictures, ids, labels and regions, and what they are called in the results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..attribution.methods.names import CAMS, INPUT_MAPS
from ..errors import ArgumentError, check_type, described

#: Columns that every row has, besides its maps and what was kept of the data set.
IMAGE, ID, LABEL, REGION, FAILURE = "image", "id", "label", "region", "failure"

#: The size and the time of the last change of a picture's file, by which a later run tells that it is the same.
BYTES, MODIFIED = "bytes", "modified"

#: Added to the name of a map: the number that its values are shares of.
SCALE = "_max"

# Names that results have by themselves.
_RESERVED = {
    *("class", "score", "probability", "predicted", "confidence", "layer", "center_y", "center_x", "focus", "mass"),
    *("mass_inside", "embedding", FAILURE, BYTES, MODIFIED),
    *CAMS,
    *INPUT_MAPS,
    *(name + SCALE for name in (*CAMS, *INPUT_MAPS)),
}

#: Where data sets that read files keep that, under names that nobody else uses.
STATUS = {BYTES: "__bytes__", MODIFIED: "__modified__"}

_DEFAULT = {IMAGE: IMAGE, ID: ID, LABEL: LABEL, REGION: REGION}


def read_columns(columns: Mapping[str, str] | None) -> dict[str, str]:
    """Returns names in the results with the names of columns in the data set.

    Raises:
        ArgumentError: If two names would collide, or there are no pictures.

    Example:
        >>> read_columns({"image": "jpg", "id": "__key__", "camera": "cam"})["camera"]
        'cam'
    """
    if columns is None:
        return dict(_DEFAULT)
    requirement = "map names of the results to columns of the data set"
    check_type("columns", columns, Mapping, requirement, "{'image': 'jpg', 'id': '__key__'}")
    if not all(isinstance(text, str) for pair in columns.items() for text in pair):
        raise ArgumentError("columns", requirement, described(columns), "{'image': 'jpg', 'id': '__key__'}")
    reserved = sorted(_RESERVED & columns.keys())
    if reserved:
        raise ArgumentError("columns", "not use a name that results have by themselves", ", ".join(map(repr, reserved)))
    return {IMAGE: IMAGE, ID: ID, **columns}


def select(batch: Mapping[str, Any], columns: Mapping[str, str], named: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Returns the columns of a batch under their names in the results; what is not named is left out.

    Args:
        batch: The columns of some rows.
        columns: As :func:`read_columns` returns them.
        named: Names that somebody asked for, which must be there; the others of the default ones may be missing.

    Raises:
        ArgumentError: If a column is missing, or their lengths differ.
    """
    missing = [columns[name] for name in (IMAGE, *named) if columns.get(name) not in batch]
    if missing:
        raise ArgumentError(
            "columns",
            "name columns of the data set",
            ", ".join(map(repr, missing)),
            [repr(name) for name in batch],
        )
    selected = {name: as_column(batch[column]) for name, column in {**columns, **STATUS}.items() if column in batch}
    count_rows("batch", selected)
    return selected


def count_rows(argument: str, rows: Mapping[str, np.ndarray]) -> int:
    """Returns the number of rows.

    Raises:
        ArgumentError: If columns have different lengths; it is about ``argument``.
    """
    lengths = {len(values) for values in rows.values()}
    if len(lengths) > 1:
        counts = ", ".join(f"{len(values)} of {name!r}" for name, values in rows.items())
        raise ArgumentError(argument, "have one row for each picture in all columns", counts)
    return lengths.pop() if lengths else 0


def as_ids(values: Iterable[Any]) -> list[str]:
    r"""Returns ids as text that is valid in any file: TFRecords hold bytes, names of files perhaps no text at all.

    Example:
        >>> as_ids(["a", b"b", 3, "\udcff"])
        ['a', 'b', '3', '\\udcff']
    """
    texts = (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values)
    return [text.encode("utf-8", "backslashreplace").decode() for text in texts]


def as_column(values: Any) -> np.ndarray:
    """Returns values, one for each row, as an array; what differs in shape becomes an array of objects.

    Example:
        >>> as_column([b"a", b"bc"]).dtype, as_column([[1, 2], [3]]).shape
        (dtype('O'), (2,))
    """
    if hasattr(values, "__array__") and getattr(values, "ndim", None):
        array = np.asarray(values)
        if array.dtype.kind not in "SU":  # of a fixed length, which loses zeros at the end, or takes a lot of memory
            return array
    rows = list(values)
    if rows and not any(isinstance(row, (str, bytes, bytearray, memoryview, dict)) for row in rows):
        try:
            return np.asarray(rows)
        except ValueError:  # of unequal shapes
            pass
    column = np.empty(len(rows), object)
    column[:] = rows
    return column
