"""The port to a site's outbox: jobs that wait for a commit, as rows of that transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from frappe_jobs.host.session import Session


@dataclass(frozen=True)
class Row:
    """A job that is sent when its transaction commits."""

    message_id: str
    #: The id of the note that its transaction leaves in Redis.
    note: str
    bench_id: str
    site: str
    #: The message as JSON.
    message: str
    #: Whether it is sent only if no other job of its id waits or runs.
    claim: bool
    #: Seconds since 1970.
    written_at: float


class Outbox(ABC):
    """The rows of the sites."""

    #: The name of their table, for people.
    table: str

    @abstractmethod
    def make_ready(self, session: Session) -> bool:
        """Whether rows can be written in the session's transaction; makes their table if need be.

        False if the session's database is not the site's own, or only read from.
        """

    @abstractmethod
    def add(self, session: Session, rows: Sequence[Row]) -> None:
        """Write rows in the session's transaction, in one statement."""

    @abstractmethod
    def read(
        self, session: Session, *, before: float, after: Row | None = None, limit: int
    ) -> list[Row]:
        """The rows written before that time, oldest first; only those that come after ``after``.

        Empty if the site has no such table yet.
        """

    @abstractmethod
    def delete(self, session: Session, message_ids: Sequence[str]) -> None:
        """Delete the rows of these messages in the session's transaction."""
