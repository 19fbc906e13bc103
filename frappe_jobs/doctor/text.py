"""How findings say lengths of time, numbers and lists of names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from frappe_jobs.texts.finding import Finding, Level

#: How many of many names are shown.
SHOWN = 3
#: How many sites have a line each; more share a line.
SITES = 5

UNITS = (("day", 24 * 3600), ("h", 3600), ("min", 60))


def duration(seconds: float) -> str:
    """``2 days``, ``3 h``, ``14 min``, ``5 s``."""
    for unit, length in UNITS:
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}{'s' if unit == 'day' else ''}"
    return f"{seconds:.0f} s"


def number(count: int, singular: str, plural: str = "") -> str:
    """``1 job``, ``2 jobs``."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def names(found: Iterable[str]) -> str:
    """The first of them, and how many more there are."""
    first, *rest = [*found] or [""]
    named = [first, *rest[: SHOWN - 1]]
    more = len(rest) + 1 - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")


def of_sites(
    level: Level, found: Mapping[str, str], all_of_them: str, cure: Callable[[str], str]
) -> Iterator[Finding]:
    """A line for each site, or a single line if they are many.

    ``cure`` is given the site's name, or ``all``.
    """
    if len(found) <= SITES:
        for site, what in found.items():
            yield Finding(level, f"{site}: {what}", cure(site))
    else:
        what = f"{len(found):,} sites {all_of_them}: {names(found)}. {next(iter(found.values()))}"
        yield Finding(level, what, cure("all"))
