"""What waits for a SQLAlchemy session's commit."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from frappe_jobs.host.session import Keeper

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Kept:
    """A thing that waits for the commit together with the others of its keeper."""

    keeper: Keeper
    thing: Any


Call = Callable[[], Any] | Kept


class AfterCommit:
    """Makes calls when the transaction they were handed in commits; drops them with it.

    A call that was handed in inside a savepoint is dropped with the savepoint, too.  All calls are
    made, also after one that raises; the first error then leaves through ``commit()``, whose work
    is done.
    """

    KEY = "frappe_jobs.after_commit"

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: dict[SessionTransaction, list[Call]] = {}
        self._committed: SessionTransaction | None = None
        self._due: deque[Call] | None = None
        #: The transaction that is about to commit: its things have been with their keepers.
        self._committing: SessionTransaction | None = None
        event.listen(session, "before_commit", self._prepare)
        event.listen(session, "after_commit", self._note_commit)
        event.listen(session, "after_transaction_end", self._settle)

    @classmethod
    def of(cls, session: Session) -> AfterCommit:
        """The one of that session, however often it is handed in."""
        found = session.info.get(cls.KEY)
        if not isinstance(found, cls) or found._session is not session:  # info may be a copy
            found = session.info[cls.KEY] = cls(session)
        return found

    def add(self, call: Callable[[], Any]) -> None:
        """Wait for the transaction that is open now; one is begun if none is.

        Outside of a transaction, a call that is handed in by another call is made right after it.
        """
        self._add(call)

    def keep(self, keeper: Keeper, thing: Any) -> None:
        """The same for a thing, which its keeper is shown in the transaction as well.

        Not where it was handed in outside of a transaction, after another one.
        """
        self._add(Kept(keeper, thing))
        if self._committing is not None and self._committing is self._innermost():
            keeper.before([thing])

    def _add(self, call: Call) -> None:
        transaction = self._innermost()
        if transaction is None and self._due is not None:
            self._due.append(call)
            return
        self._waiting.setdefault(transaction or self._session.begin(), []).append(call)

    def add_once(self, call: Callable[[], Any]) -> None:
        """The same, unless an equal call waits for that transaction already."""
        transaction = self._innermost()
        if transaction is None or call not in self._waiting.get(transaction, []):
            self.add(call)

    def _innermost(self) -> SessionTransaction | None:
        return self._session.get_nested_transaction() or self._session.get_transaction()

    def _prepare(self, session: Session) -> None:
        """Just before a commit, of a savepoint as well; what its flush hands in is there then."""
        transaction = self._innermost()
        if transaction is None or session.in_nested_transaction():
            return
        if any(isinstance(one, Kept) for one in self._waiting.get(transaction, ())):
            session.flush()
            calls = self._waiting[transaction]
            for keeper in {one.keeper: None for one in calls if isinstance(one, Kept)}:
                keeper.before(_things_of(keeper, calls))
        self._committing = transaction

    def _note_commit(self, session: Session) -> None:
        self._committed = self._innermost()

    def _settle(self, session: Session, transaction: SessionTransaction) -> None:
        """At a transaction's end, which unlike its rollback is told however it comes about."""
        calls = self._waiting.pop(transaction, [])
        if transaction is self._committing:
            self._committing = None
        if transaction is not self._committed:
            return
        self._committed = None
        if outer := _enclosing(transaction):
            self._waiting.setdefault(outer, []).extend(calls)
        elif self._due is None:
            self._make(calls)
        else:  # a call has committed a transaction of its own
            self._due.extend(calls)

    def _make(self, calls: Iterable[Call]) -> None:
        due = self._due = deque(calls)
        error: Exception | None = None
        try:
            while due:
                try:
                    one = due.popleft()
                    if isinstance(one, Kept):
                        keeper, things = one.keeper, [one.thing, *_things_of(one.keeper, due)]
                        due = self._due = deque(it for it in due if not _is_of(keeper, it))
                        keeper.after(things)
                    else:
                        one()
                except Exception as raised:  # the others' transaction is committed as well
                    if error:
                        logger.exception("a call after a commit failed, and not as the first")
                    error = error or raised
        finally:
            self._due = None
        if error:
            raise error


def _is_of(keeper: Keeper, call: Call) -> bool:
    return isinstance(call, Kept) and call.keeper is keeper


def _things_of(keeper: Keeper, calls: Iterable[Call]) -> list[Any]:
    return [one.thing for one in calls if isinstance(one, Kept) and one.keeper is keeper]


def _enclosing(transaction: SessionTransaction) -> SessionTransaction | None:
    """The savepoint or transaction around a savepoint; those of a flush are none."""
    outer = transaction.parent
    while outer and outer.parent and not outer.nested:
        outer = outer.parent
    return outer
