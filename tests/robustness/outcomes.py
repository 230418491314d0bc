"""What became of a series of attempts to break something."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Outcomes:
    """Counts attempts by what became of them.

    Attributes:
        name: What was tried.
        counts: What became of it, in words, to how often.
        losses: The attempts that went wrong, in words.
    """

    name: str
    counts: Counter = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)

    def survived(self, how: str) -> None:
        self.counts[how] += 1

    def lost(self, what: str) -> None:
        self.losses.append(what)

    @property
    def tried(self) -> int:
        return sum(self.counts.values()) + len(self.losses)

    def row(self) -> str:
        """A row of the table in the docs."""
        ways = ", ".join(f"{count} {how}" for how, count in self.counts.most_common())
        return f"| {self.name} | {self.tried} | {self.tried - len(self.losses)} | {len(self.losses)} | {ways} |"
