"""Celery's own variables in the environment: they are for other apps, and do not change ours.

Celery prefers them to its configuration.  A worker that happens to have them would then use another
broker than the processes that send.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from frappe_jobs.config import variable
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.servers.url import read_url
from frappe_jobs.texts.masking import masked

#: Each of them, and our setting for the same.
VARIABLES = {
    "CELERY_BROKER_URL": "celery_broker_url",
    "CELERY_BROKER_READ_URL": "celery_broker_url",
    "CELERY_BROKER_WRITE_URL": "celery_broker_url",
    "CELERY_RESULT_BACKEND": "celery_result_backend",
}


@dataclass(frozen=True)
class Overruled:
    """A variable that differs from our configuration."""

    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.what} {self.cure}"


def overruled(settings: SettingsInForce) -> Iterator[Overruled]:
    """The variables that differ; none for a team's own Celery app, which uses them.

    Raises ConfigError if the configuration names no broker, or a URL that cannot be read.
    """
    if settings.is_guest:
        return
    for name, key in VARIABLES.items():
        is_broker = key == "celery_broker_url"
        ours = settings.broker_url if is_broker else settings.result_backend
        said = os.environ.get(name)
        if said and not _is_same(said, ours):
            role = "the broker is" if is_broker else "Celery's results go to"
            yield Overruled(
                f"{name} is in the environment ({masked(said)}) and has no effect on frappe_jobs: "
                f"{role} {masked(ours)}, by the configuration.",
                f"Unset it, or set {key!r} ({variable(key)}), which holds for every process.",
            )


def _is_same(url: str, other: str) -> bool:
    try:
        return url == other or read_url(url) == read_url(other)
    except ValueError:
        return False
