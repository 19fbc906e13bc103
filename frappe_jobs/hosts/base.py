"""The port to where jobs run: sites, users, transactions, hooks, documents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from frappe_jobs.arguments import Arguments
from frappe_jobs.methods import check_arguments
from frappe_jobs.scheduler_events import ScheduledJob

#: Frappe's own default for whoever opens a site without saying who he is.
ADMINISTRATOR = "Administrator"

#: The methods that every host has itself; what enqueue_doc sends, and the scheduler.
RUN_DOC_METHOD = "frappe_jobs.run_doc_method"
RUN_SCHEDULED_JOB = "frappe_jobs.run_scheduled_job"
SCHEDULED_JOB_FAILED = "frappe_jobs.scheduled_job_failed"


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
    #: Whether it belongs to a Scheduler Event, and not to the apps' hooks.
    has_event: bool
    creation: datetime
    last_execution: datetime | None = None
    next_execution: datetime | None = None


class Session(ABC):
    """One site, opened for one user, with one transaction after another."""

    site: str
    user: str
    conf: Mapping[str, Any]
    #: Whether its database has been reached, so that something may have been asked of it.
    was_connected: bool = False

    @property
    @abstractmethod
    def db(self) -> Any:
        """The site's database, as the host's users know it."""

    @abstractmethod
    def commit(self) -> None:
        """Commit, then do what waits for the commit."""

    @abstractmethod
    def rollback(self) -> None:
        """Roll back, and forget what waited for the commit."""

    @abstractmethod
    def after_commit(self, call: Callable[[], Any]) -> None:
        """Call it once the transaction that is open now commits; never if it rolls back."""


class Host(ABC):
    """What frappe_jobs needs of the framework around it."""

    #: Turns the host's own types (documents) into JSON and back, beside the standard ones.
    arguments: Arguments

    @abstractmethod
    def current(self) -> Session | None:
        """The session that is open here, in this thread or async task."""

    @abstractmethod
    def session(
        self, site: str, user: str | None = None, session: Any = None
    ) -> AbstractContextManager[Session]:
        """Open a site: commits on a clean exit, rolls back on an exception, closes in any case.

        Raises SiteNotFound.  ``session`` is the host's kind of database session, to be used
        instead of an own one; its owner commits, rolls back and closes it.
        """

    @abstractmethod
    def sites(self) -> Sequence[str]:
        """The names of all sites."""

    @abstractmethod
    def preload(self) -> None:
        """Import what jobs will need, so that a worker's children share it; errors are logged."""

    @abstractmethod
    def hooks(self, name: str, site: str) -> list[str]:
        """The dotted paths that the site's apps name under that hook, in the apps' order."""

    @abstractmethod
    def method(self, path: str, site: str) -> Callable[..., Any]:
        """The method, if it may run on that site; raises MethodNotFound or MethodNotAllowed."""

    def resolver(self, site: str) -> Callable[[str], Callable[..., Any]]:
        """Gives ``method`` of that site for many paths; what is installed is looked up once."""
        return lambda path: self.method(path, site)

    def checked(self, path: str, arguments: Mapping[str, Any], site: str) -> Callable[..., Any]:
        """The method, if it may run and takes these arguments; else raises, also ArgumentError."""
        method = self.method(path, site)
        check_arguments(method, path, arguments)
        return method

    @abstractmethod
    def document_method(self, method: Callable[..., Any]) -> tuple[str, Any, str] | None:
        """Doctype, name and method's name if it is bound to a document, else None."""

    @abstractmethod
    def is_conflict(self, error: BaseException) -> bool:
        """Whether it is a deadlock or a lock wait timeout, so that running again may help."""

    @abstractmethod
    def log_error(self, title: str, error: BaseException) -> None:
        """Put the error where the host's people look for errors."""

    # --- the schedule

    @abstractmethod
    def scheduler_events(self, site: str) -> Mapping[str, Any]:
        """What each installed app's hooks say under ``scheduler_events``."""

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
        """Add, change and remove records, in one transaction; gives what the site has then.

        Their tables are made if need be.
        """

    @abstractmethod
    def note_next_executions(self, site: str, times: Mapping[str, datetime | None]) -> None:
        """Write into the records when they are due next, for people; None: they are not."""

    @abstractmethod
    def clear_scheduled_job_logs(self, site: str, before: datetime) -> None:
        """Delete the logs of the scheduled runs that began before that time."""
