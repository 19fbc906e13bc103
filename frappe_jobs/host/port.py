"""The port to where jobs run: sites, users, transactions, hooks, documents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from frappe_jobs.arguments import Arguments
from frappe_jobs.errors import ArgumentError, DatabaseUnavailable, HostNotReady, shortened
from frappe_jobs.message import Message
from frappe_jobs.methods import check_arguments
from frappe_jobs.scheduler.events import ScheduledJob
from frappe_jobs.texts.error_text import safe

Value = TypeVar("Value")

#: Frappe's own default for whoever opens a site without saying who he is.
ADMINISTRATOR = "Administrator"


def user_named(user: object) -> str:
    """Who a site is opened for: Administrator where nobody is named, by None and nothing else.

    Raises ArgumentError for what is no name.
    """
    if user is None:
        return ADMINISTRATOR
    if not isinstance(user, str) or not user.strip() or user != safe(user):
        raise ArgumentError(
            f"user must be a user's name, a text that is not empty; not {shortened(user)}. "
            f"None means {ADMINISTRATOR}."
        )
    return user


#: The methods that every host has itself; what enqueue_doc sends, the scheduler, the sweep.
RUN_DOC_METHOD = "frappe_jobs.run_doc_method"
RUN_SCHEDULED_JOB = "frappe_jobs.run_scheduled_job"
SCHEDULED_JOB_FAILED = "frappe_jobs.scheduled_job_failed"
SETTLE_BACKGROUND_TASKS = "frappe_jobs.settle_background_tasks"


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
    #: Whether it runs a script that lies in the site, so that its method is only a name.
    is_script: bool = False
    #: Why its record cannot be read; else empty.
    fault: str = ""


@dataclass(frozen=True)
class ScheduledCall:
    """What a scheduled job calls: method and arguments, what ends its id, who hears of a kill."""

    method: str
    key: str
    arguments: Mapping[str, Any]
    on_failure: str | None

    @property
    def job_id(self) -> str:
        return f"scheduled_job::{self.key}"


@dataclass(frozen=True)
class TaskChange:
    """New values of a Background Task, by field."""

    task_id: str
    values: Mapping[str, Any]
    #: Only if its newest message is this one.
    message_id: str | None = None
    #: Only if it is one of these; of any status if none is named.
    statuses: Collection[str] = ()
    #: Not if it says already how the job of that message ended.
    unless_ended: str | None = None
    #: The whole record, to be added where there is none.
    otherwise: Mapping[str, Any] | None = None


class Session(ABC):
    """One site, opened for one user, with one transaction after another."""

    site: str
    user: str
    conf: Mapping[str, Any]
    #: Whether its database has been reached, so that something may have been asked of it.
    was_connected: bool = False
    #: Whether its transactions wait for their turn to write before they read (SQLite).
    writes_first: bool = False

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

    def require_current(self) -> Session:
        """The session that is open here; raises HostNotReady."""
        if session := self.current():
            return session
        raise HostNotReady()

    def clear(self) -> None:  # noqa: B027
        """Forget whatever is open here: a worker does so before and after each job."""

    @contextmanager
    def running(self, message: Message, kwargs: Mapping[str, Any]) -> Iterator[None]:
        """Around a job's hooks and its method: the host's own code finds the job meanwhile.

        ``kwargs`` are filled in once they have been read.
        """
        yield

    @abstractmethod
    def session(
        self, site: str, user: str | None = None, session: Any = None
    ) -> AbstractContextManager[Session]:
        """Open a site: commits on a clean exit, rolls back on an exception, closes in any case.

        Raises SiteNotFound, and ArgumentError for a user that is none; None: Administrator.
        ``session`` is the host's kind of database session, to be used
        instead of an own one; its owner commits, rolls back and closes it.
        """

    @abstractmethod
    def read(self, site: str, read: Callable[[], Value]) -> Value:
        """What that gives with the site open, whatever is open here.

        Raises what it raises, and DatabaseUnavailable.
        """

    @abstractmethod
    def reach(self, site: str) -> None:
        """Ask the site's database for something small, and import nothing of its apps.

        Raises DatabaseUnavailable.
        """

    @abstractmethod
    def sites(self) -> Sequence[str]:
        """The names of all sites."""

    @property
    def worker_pool_schedules(self) -> bool:
        """Whether people of that host expect their worker-pool to queue scheduled jobs as well."""
        return False

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

    def job_id(self, job_id: str) -> str:
        """The caller's id of a job as the host's own functions ask for it."""
        return job_id

    @abstractmethod
    def is_conflict(self, error: BaseException) -> bool:
        """Whether it is a deadlock or a lock wait timeout, so that running again may help."""

    def is_out_of_reach(self, error: BaseException) -> bool:
        """Whether it says that the site's database is away, or the connection to it lost."""
        return isinstance(error, DatabaseUnavailable)

    @abstractmethod
    def log_error(self, title: str, error: BaseException) -> None:
        """Put the error where the host's people look for errors."""

    def job_for_callback(self, job: Any) -> Any:
        """What ``on_success`` and ``on_failure`` get as their job."""
        return job

    # --- documents, for the API

    @abstractmethod
    def get_doc(self, doctype: str, name: Any, *, for_update: bool = False) -> Any:
        """The document of that name on the open site; raises the host's DoesNotExistError.

        ``for_update``: as it is now, and nobody else changes it before this transaction ends.
        """

    @abstractmethod
    def new_doc(self, doctype: str, values: Mapping[str, Any]) -> Any:
        """A document that is not stored yet."""

    @abstractmethod
    def get_all(
        self,
        doctype: str,
        filters: Mapping[str, Any],
        fields: Sequence[str],
        order_by: str | None,
        limit: int | None,
    ) -> list[dict[str, Any]]:
        """The values of those fields of each document that equals the filters."""

    # --- the schedule

    def inactive(self, site: str) -> str | None:
        """Why nothing is queued for that site beside what its configuration says; None: go on."""
        return None

    def time_zone(self, site: str) -> str | None:
        """The site's time zone by its name; None: as its configuration says."""
        return None

    def scheduled_call(self, name: str, method: str, due: float) -> ScheduledCall:
        """How the scheduled job of that Scheduled Job Type is run."""
        arguments = {"job_type": name, "due": due}
        return ScheduledCall(RUN_SCHEDULED_JOB, name, arguments, SCHEDULED_JOB_FAILED)

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

        Their tables are made if need be.  Raises RecordNotWritten where another process has added
        or removed one of them first, or is in the way.
        """

    @abstractmethod
    def set_last_executions(self, site: str, times: Mapping[str, datetime]) -> None:
        """Write into the records when they have run last, in place of times that cannot be.

        Nobody is told that the schedule has changed.
        """

    @abstractmethod
    def note_next_executions(self, site: str, times: Mapping[str, datetime | None]) -> None:
        """Write into the records when they are due next, for people; None: they are not."""

    @abstractmethod
    def clear_scheduled_job_logs(self, site: str, before: datetime) -> None:
        """Delete the logs of the scheduled runs that began before that time."""

    # --- the records of tracked jobs: Background Tasks, fields by name

    @abstractmethod
    def add_background_tasks(self, session: Session, records: Sequence[Mapping[str, Any]]) -> None:
        """Add records in the session's transaction; makes their table if need be.

        Raises ArgumentError for what a record cannot hold, DatabaseUnavailable.
        """

    @abstractmethod
    def change_background_task(
        self, session: Session, change: TaskChange, *, patience: float | None = None
    ) -> bool:
        """Change a record in the session's transaction; False if there is no such one.

        Raises RecordNotWritten, and the transaction goes on without it: if somebody else is in the
        way for longer than these seconds (None: than the session waits in any case), for example.
        Raises the database's own error where that has ended the transaction.
        """

    @abstractmethod
    def change_background_tasks(
        self,
        site: str,
        changes: Sequence[TaskChange],
        done: Callable[[], object] = lambda: None,
        *,
        patience: float,
    ) -> None:
        """Change records beside whatever transaction is open here; call ``done`` once they are.

        Where that could only wait for the open one (SQLite), they are changed in it, and ``done``
        is called when it commits.  Raises DatabaseUnavailable; and RecordNotWritten if somebody
        else is in the way for longer than these seconds.
        """

    @abstractmethod
    def note_progress(self, session: Session, change: TaskChange) -> bool:
        """Write how far the job is that runs in this session, beside its transaction.

        Whether it was tried: not where it could hinder that transaction.  Waits for nobody, and
        raises nothing if it could not be written.
        """

    @abstractmethod
    def recent_background_tasks(self, user: str | None, limit: int) -> list[dict[str, Any]]:
        """The newest records of the open site, of that user (None: of all), without long texts."""

    @abstractmethod
    def open_background_tasks(self, site: str, before: datetime) -> dict[str, str]:
        """The newest message of each record from before then that has not ended, by task id."""

    @abstractmethod
    def clear_background_tasks(self, site: str, before: datetime) -> int:
        """Delete the records of jobs that ended before then; gives how many they were."""
