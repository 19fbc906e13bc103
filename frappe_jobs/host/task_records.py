"""The port to the Background Tasks, the records of a site's tracked jobs."""

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
    #: Only if this is its newest message.
    message_id: str | None = None
    #: Only if its status is one of these; whatever it is if none is named.
    statuses: Collection[str] = ()
    #: Not if it already says how the job of that message ended.
    unless_ended: str | None = None
    #: The whole record, to be added if there is none.
    otherwise: Mapping[str, Any] | None = None


class TaskRecords(ABC):
    """The records of a site's tracked jobs."""

    @property
    def functions(self) -> Any:
        """The framework's own ``enqueue_task``, ``get_current_task``, ``get_task_status``,
        ``stop_task`` and ``retry_task``; None unless it keeps Background Tasks itself.
        """
        return None

    @abstractmethod
    def add(self, session: Session, records: Sequence[Mapping[str, Any]]) -> None:
        """Add records in the session's transaction; makes their table if need be.

        Raises ArgumentError for what a record cannot hold, DatabaseUnavailable.
        """

    @abstractmethod
    def change(
        self, session: Session, change: TaskChange, *, patience: float | None = None
    ) -> bool:
        """Change a record in the session's transaction; False if there is no such record.

        Raises RecordNotWritten, and the transaction goes on without the change, for example if
        another transaction is in the way for longer than ``patience`` (None: the session's own).
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
        """Change records in a transaction of their own, then call ``done``; gives True.

        Where that would have to wait for the transaction that is open here (SQLite), they are
        changed in that one, ``done`` is called when it commits, and this gives False.  Raises
        DatabaseUnavailable, and RecordNotWritten if another transaction is in the way for longer
        than ``patience``.
        """

    @abstractmethod
    def note_progress(self, session: Session, change: TaskChange) -> bool:
        """Write how far the session's job is, in a transaction of its own.

        False if it was not tried, because it could hinder the session's transaction.  Waits for no
        lock, and raises nothing if it could not be written.
        """

    @abstractmethod
    def recent(self, user: str | None, limit: int) -> list[dict[str, Any]]:
        """The newest records of the open site, without long texts; of that user (None: of all)."""

    @abstractmethod
    def open(self, site: str, before: datetime) -> dict[str, str]:
        """By task id the newest message of each record from before then that has not ended."""

    @abstractmethod
    def clear(self, site: str, before: datetime) -> int:
        """Delete the records of jobs that ended before then; gives how many there were."""
