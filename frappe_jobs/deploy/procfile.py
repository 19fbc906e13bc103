"""A Procfile, for honcho, foreman and hosts that read one."""

from __future__ import annotations

from collections.abc import Iterable

from frappe_jobs.deploy.processes import Process


def procfile(processes: Iterable[Process]) -> str:
    """The text of a Procfile; a name may hold letters, digits, '_' and '-' there."""
    return "".join(f"{process.name.replace('.', '_')}: {process}\n" for process in processes)
