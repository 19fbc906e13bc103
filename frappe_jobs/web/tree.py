"""Arguments and results as a tree, and tracebacks with the app's own frames first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from frappe_jobs.rows.values import shown_value
from frappe_jobs.texts.error_text import bounded

#: Deeper parts are shown as JSON; and so many items of a list, characters of a text.
DEEPEST, MOST, LONGEST = 8, 100, 2000

FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+), in (?P<function>.*)$')
#: Files of ours, of the libraries, of Python.
THEIRS = re.compile(r"/(site-packages|dist-packages|frappe_jobs|python3\.\d+)/|^<frozen ")


@dataclass(frozen=True)
class Leaf:
    """A value with nothing inside."""

    text: str
    kind: str


@dataclass(frozen=True)
class Branch:
    """An object or a list: what stands in it, by key or number."""

    items: list[tuple[str, Leaf | Branch]]
    kind: str
    more: int = 0


def tree(value: Any, depth: int = 0) -> Leaf | Branch:
    """The value, for a template to walk."""
    if isinstance(value, (dict, list)) and value and depth < DEEPEST:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        items = [(str(key), tree(one, depth + 1)) for key, one in [*pairs][:MOST]]
        kind = "object" if isinstance(value, dict) else "list"
        return Branch(items, kind, max(0, len(value) - MOST))
    text = value if isinstance(value, str) else shown_value(value)
    return Leaf(bounded(text, LONGEST), type(value).__name__)


@dataclass(frozen=True)
class Frame:
    """A call in a traceback, with its lines of source."""

    file: str
    line: str
    function: str
    source: str
    is_apps: bool
    #: The file as people know it: without the bench's folder.
    short: str


def frames(traceback: str, bench: str) -> list[Frame]:
    """Its calls, the last one first; none if it is not as Python prints one.

    ``bench`` is the folder that the bench's apps lie in.
    """
    folder = re.compile(re.escape(bench) + r"/(?:apps/[^/]+/)?")
    found: list[Frame] = []
    lines = traceback.splitlines()
    for number, text in enumerate(lines):
        if match := FRAME.match(text):
            source = "\n".join(_source(lines[number + 1 :]))
            file = match["file"]
            short = folder.sub("", file, count=1) if file.startswith(bench) else file
            is_apps = not THEIRS.search(file)
            found.append(Frame(file, match["line"], match["function"], source, is_apps, short))
    return found[::-1]


def _source(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("    "):
            return
        yield line[4:]
