"""The port to a site's done markers: rows that are committed with what a job has written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime

from frappe_jobs.host.session import Session


class AlreadyDone(Exception):
    """Another run of the same message has committed its work, so this run must not commit."""


@dataclass(frozen=True)
class DoneMarker:
    """Says that something is committed: a message's work, a step, or a loop up to some row."""

    #: The message's id; of a step or a loop its name, too.
    name: str
    #: The run that did it, as the ledger's records name it.
    run: str
    #: As JSON; None where it was too long to be kept here.
    result: str | None


class DoneMarkers(ABC):
    """The done markers of a site's database; no two have the same name."""

    #: Rows deleted in one transaction.
    chunk = 1_000

    @abstractmethod
    def put(self, session: Session, marker: DoneMarker, before: DoneMarker | None = None) -> None:
        """Add it in the session's transaction, or change it if it is still as ``before``.

        Makes the table if need be.  Waits for a transaction that is putting the same marker.
        Raises AlreadyDone if that one was quicker; then this transaction can only be rolled back.
        """

    @abstractmethod
    def look(self, session: Session, name: str) -> DoneMarker | None:
        """The marker of that name as the session's transaction sees it.

        Raises DatabaseUnavailable, or the database's own error.
        """

    def find(self, session: Session, name: str) -> DoneMarker | None:
        """As ``look``, and roll the transaction back."""
        try:
            return self.look(session, name)
        finally:
            session.rollback()

    def clear(self, site: str, before: datetime) -> int:
        """Delete the markers from before then, in small transactions; gives how many there were.

        Raises DatabaseUnavailable.
        """
        gone = deleted = self.clear_some(site, before, self.chunk)
        while deleted == self.chunk:
            deleted = self.clear_some(site, before, self.chunk)
            gone += deleted
        return gone

    @abstractmethod
    def clear_some(self, site: str, before: datetime, limit: int) -> int:
        """Delete the oldest of them, ``limit`` at most, in one transaction; gives how many."""
