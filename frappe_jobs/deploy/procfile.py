"""A Procfile, for honcho, foreman and hosts that read one."""

from __future__ import annotations

from collections.abc import Container, Iterable
from itertools import chain, count

from frappe_jobs.deploy.processes import Process


def procfile(processes: Iterable[Process]) -> str:
    """The text of a Procfile; a name may hold letters, digits, '_' and '-' there, and is unique."""
    found = list(processes)
    names = {process.name for process in found if "." not in process.name}
    lines = []
    for process in found:
        name = process.name
        if "." in name:
            name = _free(name.replace(".", "_"), names)
            names.add(name)
        lines.append(f"{name}: {process}\n")
    return "".join(lines)


def _free(name: str, taken: Container[str]) -> str:
    """That name, or the first of name_2, name_3, … that is free."""
    numbered = (f"{name}_{number}" for number in count(2))
    return next(candidate for candidate in chain([name], numbered) if candidate not in taken)
