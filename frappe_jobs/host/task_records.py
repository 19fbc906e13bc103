"""The port to the records of tracked jobs: Background Tasks, fields by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from frappe_jobs.host.session import Session


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


class TaskRecords(ABC):
    """The records of a site's tracked jobs."""

    @abstractmethod
    def add(self, session: Session, records: Sequence[Mapping[str, Any]]) -> None:
        """Add records in the session's transaction; makes their table if need be.

        Raises ArgumentError for what a record cannot hold, DatabaseUnavailable.
        """

    @abstractmethod
    def change(
        self, session: Session, change: TaskChange, *, patience: float | None = None
    ) -> bool:
        """Change a record in the session's transaction; False if there is no such one.

        Raises RecordNotWritten, and the transaction goes on without it: if somebody else is in the
        way for longer than these seconds (None: than the session waits in any case), for example.
        Raises the database's own error where that has ended the transaction.
        """

    @abstractmethod
    def change_beside(
        self,
        site: str,
        changes: Sequence[TaskChange],
        done: Callable[[], object] = lambda: None,
        *,
        patience: float,
    ) -> bool:
        """Change records beside whatever transaction is open here; call ``done`` once they are.

        Where that could only wait for the open one (SQLite), they are changed in it, ``done`` is
        called when it commits, and this gives False.  Raises DatabaseUnavailable; and
        RecordNotWritten if somebody else is in the way for longer than these seconds.
        """

    @abstractmethod
    def note_progress(self, session: Session, change: TaskChange) -> bool:
        """Write how far the job is that runs in this session, beside its transaction.

        Whether it was tried: not where it could hinder that transaction.  Waits for nobody, and
        raises nothing if it could not be written.
        """

    @abstractmethod
    def recent(self, user: str | None, limit: int) -> list[dict[str, Any]]:
        """The newest records of the open site, of that user (None: of all), without long texts."""

    @abstractmethod
    def open(self, site: str, before: datetime) -> dict[str, str]:
        """The newest message of each record from before then that has not ended, by task id."""

    @abstractmethod
    def clear(self, site: str, before: datetime) -> int:
        """Delete the records of jobs that ended before then; gives how many they were."""
