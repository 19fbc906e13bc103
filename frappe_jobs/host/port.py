"""The port to where jobs run: sites, their users and transactions, what errors mean there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from frappe_jobs.arguments import Arguments
from frappe_jobs.errors import (
    ArgumentError,
    DatabaseUnavailable,
    HostNotReady,
    shortened,
)
from frappe_jobs.host.documents import Documents
from frappe_jobs.host.done_markers import DoneMarkers
from frappe_jobs.host.methods import Methods
from frappe_jobs.host.outbox import Outbox
from frappe_jobs.host.schedule_records import ScheduleRecords
from frappe_jobs.host.session import Session
from frappe_jobs.host.task_records import TaskRecords
from frappe_jobs.message import Message
from frappe_jobs.texts.error_text import safe

Value = TypeVar("Value")

#: Frappe's own default where a site is opened for no named user.
ADMINISTRATOR = "Administrator"


def user_named(user: object) -> str:
    """The user that a site is opened for; None means Administrator.

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


class Host(ABC):
    """What frappe_jobs needs of the framework around it: sites to open, and what errors mean."""

    #: Turns values into JSON and back, the host's own types (documents) as well.
    arguments: Arguments
    methods: Methods
    documents: Documents
    schedule: ScheduleRecords
    tasks: TaskRecords
    done_markers: DoneMarkers
    outbox: Outbox

    @abstractmethod
    def current(self) -> Session | None:
        """The session that is open here, in this thread or async task."""

    def require_current(self) -> Session:
        """The session that is open here; raises HostNotReady."""
        if session := self.current():
            return session
        raise HostNotReady()

    def clear(self) -> None:  # noqa: B027
        """Forget whatever is open here; a worker calls it before and after each job."""

    @contextmanager
    def running(self, message: Message, kwargs: Mapping[str, Any]) -> Iterator[None]:
        """Inside, where a job's hooks and method run, the host's own code finds the job.

        ``kwargs`` are filled in once they have been read.
        """
        yield

    @abstractmethod
    def session(
        self, site: str, user: str | None = None, session: Any = None
    ) -> AbstractContextManager[Session]:
        """Open a site: commits on a clean exit, rolls back on an exception, closes in any case.

        Raises SiteNotFound, and ArgumentError for what is no user; None: Administrator.
        ``session`` is a database session of the host's kind that is used instead of a new one; its
        owner commits, rolls back and closes it.
        """

    @abstractmethod
    def joined(self, site: str, user: str | None = None) -> AbstractContextManager[Session]:
        """That site, open; whatever is done on it meanwhile is one transaction, then rolled back.

        For tests, and for a single thread.  Raises HostError where another site is in the way.
        """

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Inside, whoever opens the site that is open here works in its transaction, if need be.

        For tests in whose framework nobody else sees what they have not committed.
        """
        yield

    @abstractmethod
    def read(self, site: str, read: Callable[[], Value]) -> Value:
        """What ``read()`` gives with that site open, whatever else is open here.

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
        """Whether this host's users expect their worker pool to queue scheduled jobs as well."""
        return False

    @abstractmethod
    def preload(self) -> None:
        """Import what jobs will need, so that a worker's children share it; errors are logged."""

    def job_id(self, job_id: str) -> str:
        """The caller's id of a job, in the form in which the host's own functions ask for it."""
        return job_id

    @abstractmethod
    def is_conflict(self, error: BaseException) -> bool:
        """Whether it says that another transaction was in the way, so that a new run may help."""

    def is_out_of_reach(self, error: BaseException) -> bool:
        """Whether it says that the site's database is away, or the connection to it was lost."""
        return isinstance(error, DatabaseUnavailable)

    @abstractmethod
    def log_error(self, title: str, error: BaseException) -> None:
        """Put the error where the host's users look for errors."""

    def job_for_callback(self, job: Any) -> Any:
        """What ``on_success`` and ``on_failure`` get as their job."""
        return job
