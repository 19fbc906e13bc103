"""The port to a site's schedule: its Scheduled Job Types, and what its apps' hooks say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from frappe_jobs.host.own_methods import RUN_SCHEDULED_JOB, SCHEDULED_JOB_FAILED

#: The hook that names a method, by doctype, for a Scheduler Event that has none.
AGAINST = "scheduled_against"


@dataclass(frozen=True)
class ScheduledJob:
    """A scheduled job of the hooks; its method, frequency and expression tell it from others."""

    method: str
    #: As Frappe's record spells it: ``Hourly Long``, ``Cron``.
    frequency: str
    #: The expression of a Cron job, else empty.
    cron_format: str = ""
    #: The app that names it first.
    app: str = field(default="", compare=False)


@dataclass(frozen=True)
class JobType:
    """A Scheduled Job Type of a site, as its record has it."""

    name: str
    #: Its own, else its scheduler event's, else from the hook ``scheduled_against``; or empty.
    method: str
    frequency: str
    cron_format: str
    queue: str
    stopped: bool
    #: Whether it belongs to a Scheduler Event, not to the apps' hooks.
    has_event: bool
    creation: datetime
    last_execution: datetime | None = None
    next_execution: datetime | None = None
    #: Whether it runs a script of the site's database, so that its method is only a name.
    is_script: bool = False
    #: Why its record cannot be read; empty if it can.
    fault: str = ""
    #: Whether the host's ``Long`` jobs come some minutes after their time, so that not all begin
    #: at once.
    spreads_long: bool = True


@dataclass(frozen=True)
class ScheduledCall:
    """What a scheduled job calls."""

    method: str
    #: What its job id ends with.
    key: str
    arguments: Mapping[str, Any]
    #: Called when its process was killed.
    on_failure: str | None

    @property
    def job_id(self) -> str:
        return f"scheduled_job::{self.key}"


class ScheduleRecords(ABC):
    """What the scheduler asks of a site, and writes there."""

    def inactive(self, site: str) -> str | None:
        """Why nothing is queued for that site, beyond what its configuration says; None: it is."""
        return None

    def time_zone(self, site: str) -> str | None:
        """The name of the site's time zone; None: as its configuration says."""
        return None

    def scheduled_call(self, name: str, method: str, due: float) -> ScheduledCall:
        """How the scheduled job of that Scheduled Job Type is run."""
        arguments = {"job_type": name, "due": due}
        return ScheduledCall(RUN_SCHEDULED_JOB, name, arguments, SCHEDULED_JOB_FAILED)

    @abstractmethod
    def scheduler_events(self, site: str) -> Mapping[str, Any]:
        """Each installed app's ``scheduler_events``."""

    @abstractmethod
    def job_types(self, site: str) -> list[JobType]:
        """The site's Scheduled Job Types; none before its first migrate.

        Raises DatabaseUnavailable.
        """

    @abstractmethod
    def change_job_types(
        self,
        site: str,
        add: Sequence[ScheduledJob],
        change: Mapping[str, ScheduledJob],
        remove: Sequence[str],
    ) -> list[JobType]:
        """Add, change and remove records in one transaction; gives all that the site has then.

        Their tables are made if need be.  Raises RecordNotWritten if another process was quicker
        with one of these records, or is in the way.
        """

    @abstractmethod
    def set_last_executions(self, site: str, times: Mapping[str, datetime]) -> None:
        """Correct the times of last executions in the records; the scheduler is not told."""

    @abstractmethod
    def note_next_executions(self, site: str, times: Mapping[str, datetime | None]) -> None:
        """Write into the records when they are due next, for people; None: never."""

    @abstractmethod
    def clear_logs(self, site: str, before: datetime) -> None:
        """Delete the logs of the scheduled runs that began before that time."""
