"""One site that is open, as every host shows it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class Keeper(Protocol):
    """Whose things wait for commits, and are seen to together, those of one transaction."""

    def before(self, things: Sequence[Any]) -> None:
        """Called in the transaction, just before it commits; what this raises keeps it from that.

        Once more for what is handed in from then on.
        """

    def after(self, things: Sequence[Any]) -> None:
        """Called once it has committed."""


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

    @abstractmethod
    def wait_for_commit(self, keeper: Keeper, thing: Any) -> None:
        """Hand it to its keeper just before the open transaction commits, and once it has.

        Never if it rolls back.
        """
