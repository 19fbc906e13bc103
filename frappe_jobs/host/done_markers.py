"""The port to a site's done markers: rows that are committed with what a job has written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime

from frappe_jobs.host.session import Session


class AlreadyDone(Exception):
    """Another run of the same message has committed its work; nothing of this one may be."""


@dataclass(frozen=True)
class DoneMarker:
    """That something is committed: the work of a message, a step of it, so much of a loop."""

    #: The message's id, and behind it the name of the step or of the loop.
    name: str
    #: The run that did it, as the ledger's records name it.
    run: str
    #: As JSON; None where it was too long to be kept here.
    result: str | None


class DoneMarkers(ABC):
    """The done markers of a site's database, at most one of each name."""

    #: Rows deleted in one transaction.
    chunk = 1_000

    @abstractmethod
    def put(self, session: Session, marker: DoneMarker, before: DoneMarker | None = None) -> None:
        """Add it in the session's transaction, or change it if it is still as ``before``.

        Makes the table if need be.  Waits for another transaction that does the same at this
        moment.  Raises AlreadyDone if that one was quicker; then the transaction can only be rolled
        back.
        """

    @abstractmethod
    def look(self, session: Session, name: str) -> DoneMarker | None:
        """The marker of that name as the session's transaction sees it.

        Raises DatabaseUnavailable, or the database's own error.
        """

    def find(self, session: Session, name: str) -> DoneMarker | None:
        """The same, and roll the transaction back."""
        try:
            return self.look(session, name)
        finally:
            session.rollback()

    def clear(self, site: str, before: datetime) -> int:
        """Delete the markers from before then, in small transactions; gives how many they were.

        Raises DatabaseUnavailable.
        """
        gone = some = self.clear_some(site, before, self.chunk)
        while some == self.chunk:
            some = self.clear_some(site, before, self.chunk)
            gone += some
        return gone

    @abstractmethod
    def clear_some(self, site: str, before: datetime, limit: int) -> int:
        """Delete the oldest of them, so many at most, in one transaction; gives how many."""
