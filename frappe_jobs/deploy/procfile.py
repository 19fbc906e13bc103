"""A Procfile, for honcho, foreman and hosts that read one."""

from __future__ import annotations

from collections.abc import Iterable

from frappe_jobs.deploy.processes import Process, free


def procfile(processes: Iterable[Process]) -> str:
    """The text of a Procfile; a name may hold letters, digits, '_' and '-' there, and is unique."""
    found = list(processes)
    names = {process.name for process in found if "." not in process.name}
    lines = []
    for process in found:
        name = process.name
        if "." in name:
            name = free(name.replace(".", "_"), names)
            names.add(name)
        lines.append(f"{name}: {process}\n")
    return "".join(lines)
