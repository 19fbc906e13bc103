"""What the rows found, as text, and the page that quotes it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

WIDTH = 96
NAME = "chaos.txt"
#: The page, and where it quotes the text.
PAGE = "guarantees.md"
QUOTE = (f"`docs/{NAME}`:\n\n```text\n", "```\n")


@dataclass(frozen=True)
class Row:
    """What one test of one row found."""

    what: str
    where: str
    figures: str
    passed: bool


def text(facts: str, rows: Iterable[Row]) -> str:
    return "\n".join([facts, *_lines(rows)]) + "\n"


def _lines(rows: Iterable[Row]) -> Iterator[str]:
    last = None
    for row in rows:
        if row.what != last:
            yield f"\n{row.what}"
            last = row.what
        figures = row.figures if row.passed else f"MISSED: {row.figures}"
        yield from textwrap.wrap(
            figures, WIDTH, initial_indent=f"  {row.where:<10}", subsequent_indent=" " * 12
        )


def write(found: str, folder: Path) -> None:
    """Renew the text, and the page's quote of it."""
    (folder / NAME).write_text(found, encoding="utf-8")
    page = folder / PAGE
    if page.exists():
        before, begin, rest = page.read_text(encoding="utf-8").partition(QUOTE[0])
        _, end, after = rest.partition(QUOTE[1])
        page.write_text("".join([before, begin, found, end, after]), encoding="utf-8")
