"""An open site, in every host."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class Keeper(Protocol):
    """Is called at a commit with all things that were handed in for that commit."""

    def before(self, things: Sequence[Any]) -> None:
        """Called in the transaction, just before it commits; it does not commit if this raises.

        Called again for things that are handed in meanwhile.
        """

    def after(self, things: Sequence[Any]) -> None:
        """Called once the transaction has committed."""


class Session(ABC):
    """A site that is open for one user; its transactions follow each other."""

    site: str
    user: str
    conf: Mapping[str, Any]
    #: Whether its database has been reached, so that something may have been done in it.
    was_connected: bool = False
    #: Whether its transactions take their turn to write before they read (SQLite).
    writes_first: bool = False

    @property
    @abstractmethod
    def db(self) -> Any:
        """The site's database, in the form that the host's users know."""

    @abstractmethod
    def commit(self, mark: Callable[[], object] | None = None) -> None:
        """Commit, then do what waits for the commit.

        ``mark`` is called in the transaction, last before the commit, if anything was written since
        the session was opened, in this transaction or an earlier one.
        """

    @abstractmethod
    def rollback(self) -> None:
        """Roll back, and forget what waited for the commit."""

    @abstractmethod
    def forget_what_was_read(self) -> None:
        """Read documents anew, as others have changed them within the same transaction."""

    @abstractmethod
    def after_commit(self, call: Callable[[], Any]) -> None:
        """Call it when the open transaction has committed; never if that rolls back."""

    @abstractmethod
    def wait_for_commit(self, keeper: Keeper, thing: Any) -> None:
        """Hand it to its keeper just before the open transaction commits, and once it has.

        After a rollback it is forgotten.
        """
