"""Whether the installed distributions are those that we, and Frappe, ask for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion

from frappe_jobs.texts.finding import Finding

#: Whose requirements are checked; what is not installed requires nothing.
OURS = ("frappe_jobs", "celery", "kombu", "celery-redbeat")
FRAPPES = ("frappe",)
SHOWN = ("celery", "kombu", "redis", "click")
#: Which of our extras keeps the pins of which Frappe.
EXTRAS = {"15": "frappe15", "16": "frappe16"}
#: Parsing takes longer than reading which distributions there are, and never changes.
parsed = cache(Requirement)


def installed_version(name: str) -> str | None:
    """From the top of its metadata: to parse its description as well takes five times longer."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    text = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    said = re.search(r"^Version:[ \t]*(\S+)", text.partition("\n\n")[0], re.MULTILINE)
    return said[1] if said else found.version


def requirements(name: str) -> list[str]:
    """What that distribution requires, with markers; nothing if it is not installed."""
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def check_versions(
    on_bench: bool,
    requires: Callable[[str], Iterable[str]] = requirements,
    version: Callable[[str], str | None] = installed_version,
) -> Iterator[Finding]:
    """Compare what is installed with what is required, like ``pip check`` without extras."""
    conflicts: dict[str, Finding] = {}
    for whose in (*OURS, *(FRAPPES if on_bench else ())):
        for text in requires(whose):
            if found := _conflict(whose, text, version, on_bench):
                conflicts.setdefault(found.what, found)
    yield from conflicts.values()
    if not conflicts:
        known = [f"{name} {there}" for name in SHOWN if (there := version(name))]
        what = f"The versions are as required: {', '.join(known)}."
        yield Finding("ok", what)


def _conflict(
    whose: str, text: str, version: Callable[[str], str | None], on_bench: bool
) -> Finding | None:
    try:
        wanted = parsed(text)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            return None
        there = version(wanted.name)
        if there and wanted.specifier.contains(there, prereleases=True):
            return None
    except (InvalidRequirement, InvalidVersion):  # pip's to judge
        return None
    asked = f"{wanted.name}{wanted.specifier}"
    has = f"{wanted.name} {there} is installed" if there else f"{wanted.name} is not installed"
    what = f"{has}, but {whose} requires {asked}."
    # The extra keeps ours within Frappe's pins.
    extra = EXTRAS.get((version("frappe") or "").partition(".")[0])
    ours = f"'frappe_jobs[{extra}]' " if on_bench and extra else ""
    return Finding("error" if whose in OURS else "warning", what, f"pip install {ours}'{asked}'")
