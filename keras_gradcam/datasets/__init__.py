"""Data sets of any size: explained on one machine or many, written as Parquet, read back by question."""

from __future__ import annotations

from .batch import ExplainBatch
from .results import Results, open_results
from .run import RunSummary, explain_dataset

__all__ = ["ExplainBatch", "Results", "RunSummary", "explain_dataset", "open_results"]
