"""Tables of figures, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """A table with a title and what it shows.

    Attributes:
        about: Sentences above the table: what was measured, and how.
        rows: Cells by row, as many as in `header`.
        failed: Sentences about guarantees that do not hold.
    """

    title: str
    about: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    failed: Sequence[str] = field(default_factory=tuple)

    def markdown(self) -> str:
        """Write the table with its title."""
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        return "\n".join([f"### {self.title}", "", self.about, "", *(f"| {' | '.join(line)} |" for line in lines)])


def percent(share: float, digits: int = 1) -> str:
    """Write a share in percent."""
    return f"{100 * share:.{digits}f} %"


def count_in(held: int, of: int) -> str:
    """Write a count and its whole."""
    return f"{held:,} of {of:,}"
