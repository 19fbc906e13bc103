"""One site that is open, as every host shows it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any


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
    def commit(self, mark: Callable[[], object] | None = None) -> None:
        """Commit, then do what waits for the commit.

        ``mark`` is called last of all before the commit, in its transaction, if anything was
        written since the session was opened, in whichever transaction.
        """

    @abstractmethod
    def rollback(self) -> None:
        """Roll back, and forget what waited for the commit."""

    @abstractmethod
    def after_commit(self, call: Callable[[], Any]) -> None:
        """Call it once the transaction that is open now commits; never if it rolls back."""
