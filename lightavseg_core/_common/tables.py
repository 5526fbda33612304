"""Tables in plain text."""
from __future__ import annotations

from collections.abc import Sequence


def in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, with the cells of a column below one another."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths)] for row in rows)
    return ["  ".join(row).rstrip() for row in padded]
