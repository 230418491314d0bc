"""Questions that people ask of the rows of a data set, in words: which rows, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArgumentError, check_type

#: Column to its values, float64 (N,), NaN where one is missing.
Values = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Query:
    """A question.

    Attributes:
        columns: What it needs to know.
        selects: Returns which rows it is about, bool (N,).
        sorts_by: The column that orders them; rows without a value are left out.
        descending: Whether the largest comes first.
    """

    columns: tuple[str, ...]
    selects: Callable[[Values], np.ndarray]
    sorts_by: str
    descending: bool = False


def _every(values: Values) -> np.ndarray:
    return np.ones(len(next(iter(values.values()))), bool)


def _wrong(values: Values) -> np.ndarray:
    return np.isfinite(values["label"]) & (values["label"] != values["predicted"])


def _right(values: Values) -> np.ndarray:
    return values["label"] == values["predicted"]


#: The questions by name.
QUERIES = {
    "wrong and confident": Query(("label", "predicted", "confidence"), _wrong, "confidence", descending=True),
    "unsure": Query(("confidence",), _every, "confidence"),
    "lowest mass inside": Query(("mass_inside",), _every, "mass_inside"),
    "right but outside": Query(("label", "predicted", "mass_inside"), _right, "mass_inside"),
    "narrowest focus": Query(("focus",), _every, "focus"),
    "widest focus": Query(("focus",), _every, "focus", descending=True),
    "weakest map": Query(("mass",), _every, "mass"),
    "lowest score": Query(("score",), _every, "score"),
    "highest score": Query(("score",), _every, "score", descending=True),
}

# How a column comes into the results that is not there by itself.
_SOURCES = {
    "label": "columns={'label': ...}, a column of the data set",
    "mass_inside": "columns={'region': ...}, a column of the data set",
    "predicted": "a model with classes",
    "confidence": "a model with classes",
}


def read_query(text: Any) -> Query:
    """Returns the question of this name, written with spaces or hyphens.

    Raises:
        ArgumentError: If there is none.

    Example:
        >>> read_query("lowest-mass-inside").sorts_by
        'mass_inside'
    """
    check_type("query", text, str, "name a question", ", ".join(map(repr, QUERIES)))
    query = QUERIES.get(" ".join(text.lower().replace("-", " ").split()))
    if query is None:
        raise ArgumentError("query", "name a question", repr(text), [repr(name) for name in QUERIES])
    return query


def answer(query: Query, values: Values) -> np.ndarray:
    """Returns the numbers of the rows that a question is about, in its order; equal ones keep their own.

    Raises:
        ArgumentError: If a column is missing.

    Example:
        >>> answer(QUERIES["unsure"], {"confidence": np.array([0.9, np.nan, 0.4])}).tolist()
        [2, 0]
    """
    for name in query.columns:
        if name not in values:
            raise ArgumentError(
                "query",
                f"ask for columns of the results, such as {name!r}",
                "results without it",
                _SOURCES.get(name, ()),
            )
    order = values[query.sorts_by]
    rows = np.flatnonzero(query.selects(values) & ~np.isnan(order))
    return rows[np.argsort(-order[rows] if query.descending else order[rows], kind="stable")]
