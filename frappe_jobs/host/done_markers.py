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
    """That the work of a message is committed."""

    message_id: str
    #: The run that did it, as the ledger's records name it.
    run: str
    #: As JSON; None where it was too long to be kept here.
    result: str | None


class DoneMarkers(ABC):
    """The done markers of a site's database, at most one of each message."""

    @abstractmethod
    def add(self, session: Session, marker: DoneMarker) -> None:
        """Add it in the session's transaction; makes the table if need be.

        Waits for another transaction that adds the message's marker at this moment.  Raises
        AlreadyDone, and the transaction can only be rolled back.
        """

    @abstractmethod
    def find(self, session: Session, message_id: str) -> DoneMarker | None:
        """The marker of that message if one is committed, and roll the transaction back.

        Raises DatabaseUnavailable, or the database's own error.
        """

    @abstractmethod
    def clear(self, site: str, before: datetime) -> int:
        """Delete the markers from before then, in small transactions; gives how many they were.

        Raises DatabaseUnavailable.
        """
