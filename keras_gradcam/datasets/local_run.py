"""A run on this machine: one batch is read and decoded while the model explains the one before."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ..pictures.reading import one_ahead
from .batch import ExplainBatch
from .columns import FAILURE, ID
from .shards import ShardFolder, WrittenRows
from .sources import Rows, Source

# A file is written when it has this number of rows or bytes, or after this number of seconds: what is not written when
# a process is killed is explained again.
_MOST_ROWS, _MOST_BYTES, _MOST_SECONDS = 4096, 64 << 20, 60.0


def run_locally(
    explain_batch: ExplainBatch,
    source: Source,
    shards: ShardFolder,
    written: WrittenRows,
    notify: Callable[[Rows], None],
) -> None:
    """Explains all rows of a data set; memory holds a few batches and the rows that are not written yet.

    Args:
        explain_batch: What is done to every batch.
        source: The rows.
        shards: Where they are written to, also when an error or Ctrl-C ends the run.
        written: What earlier runs have done.
        notify: Called with the rows of each batch.

    Raises:
        OSError: If rows cannot be written.
    """
    writer = _Writer(shards, written)
    try:
        for decoded in one_ahead(explain_batch.decode, source.batches(explain_batch.batch_size)):
            rows = explain_batch.explain(decoded)
            writer.add(rows)
            notify(rows)
    finally:
        writer.flush()


class _Writer:
    """Collects rows and writes them as files of a sensible size.

    Args:
        shards: Where to.
        written: What earlier runs have written, which these rows may take the place of.
    """

    def __init__(self, shards: ShardFolder, written: WrittenRows) -> None:
        self._shards, self._written = shards, written
        self._held: list[Rows] = []
        self._since = time.monotonic()

    def add(self, rows: Rows) -> None:
        self._held.append(rows)
        count = sum(len(part[FAILURE]) for part in self._held)
        size = sum(values.nbytes for part in self._held for values in part.values())
        if count >= _MOST_ROWS or size >= _MOST_BYTES or time.monotonic() - self._since >= _MOST_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what was collected."""
        held, self._held, self._since = self._held, [], time.monotonic()
        if not held:
            return
        rows = {name: np.concatenate([part[name] for part in held]) for name in held[0]}
        ids, failures = rows[ID].tolist(), rows[FAILURE].tolist()
        # A picture that fails as it did before keeps its row.
        known = self._written.failures
        new = np.array([not failure or known.get(text) != failure for text, failure in zip(ids, failures, strict=True)])
        rows = {name: values[new] for name, values in rows.items()}
        present, _ = self._written.find(rows[ID].tolist(), None)
        self._shards.remove(rows[ID][present].tolist())
        if new.any():
            self._shards.write(rows)
