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
    """A thing that waits for the commit together with its keeper's other things."""

    keeper: Keeper
    thing: Any


Call = Callable[[], Any] | Kept


class AfterCommit:
    """Makes calls once the transaction in which they were handed in commits; a rollback drops them.

    A call that was handed in inside a savepoint is dropped with the savepoint, too.  All calls are
    made, even if one raises; the first error is then raised by ``commit()``, whose work is done.
    """

    KEY = "frappe_jobs.after_commit"

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: dict[SessionTransaction, list[Call]] = {}
        self._committed: SessionTransaction | None = None
        self._due: deque[Call] | None = None
        #: The transaction that is about to commit: its things' keepers have been called.
        self._committing: SessionTransaction | None = None

    @classmethod
    def of(cls, session: Session) -> AfterCommit:
        """The session's own, however often that session is handed in."""
        if (found := _found(session)) is None:
            found = session.info[cls.KEY] = cls(session)
        return found

    def add(self, call: Callable[[], Any]) -> None:
        """Wait for the open transaction; begin one if none is open.

        A call that another call hands in outside of a transaction is made right after that call.
        """
        self._add(call)

    def keep(self, keeper: Keeper, thing: Any) -> None:
        """As ``add``, for a thing, whose keeper is called before the commit as well.

        Not if a call hands it in outside of a transaction.
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
        """As ``add``, unless an equal call already waits for that transaction."""
        transaction = self._innermost()
        if transaction is None or call not in self._waiting.get(transaction, []):
            self.add(call)

    def _innermost(self) -> SessionTransaction | None:
        return self._session.get_nested_transaction() or self._session.get_transaction()

    def prepare(self) -> None:
        """Called just before a commit, a savepoint's as well; flushes, which may hand in more."""
        transaction = self._innermost()
        if transaction is None or self._session.in_nested_transaction():
            return
        if any(isinstance(call, Kept) for call in self._waiting.get(transaction, ())):
            self._session.flush()
            calls = self._waiting[transaction]
            for keeper in {call.keeper: None for call in calls if isinstance(call, Kept)}:
                keeper.before(_things_of(keeper, calls))
        self._committing = transaction

    def note_commit(self) -> None:
        """Called once it has committed, before it ends."""
        self._committed = self._innermost()

    def settle(self, transaction: SessionTransaction) -> None:
        """Called at a transaction's end, however it comes about; a rollback is not always told."""
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
                    call = due.popleft()
                    if isinstance(call, Kept):
                        keeper, things = call.keeper, [call.thing, *_things_of(call.keeper, due)]
                        due = self._due = deque(it for it in due if not _is_of(keeper, it))
                        keeper.after(things)
                    else:
                        call()
                except Exception as raised:  # the other calls' transaction is committed, too
                    if error:
                        logger.exception("another call after the commit failed")
                    error = error or raised
        finally:
            self._due = None
        if error:
            raise error


def _is_of(keeper: Keeper, call: Call) -> bool:
    return isinstance(call, Kept) and call.keeper is keeper


def _things_of(keeper: Keeper, calls: Iterable[Call]) -> list[Any]:
    return [call.thing for call in calls if isinstance(call, Kept) and call.keeper is keeper]


def _enclosing(transaction: SessionTransaction) -> SessionTransaction | None:
    """The savepoint or transaction around a savepoint; a flush's own do not count."""
    outer = transaction.parent
    while outer and outer.parent and not outer.nested:
        outer = outer.parent
    return outer


def _found(session: Session) -> AfterCommit | None:
    found = session.info.get(AfterCommit.KEY)
    is_its_own = isinstance(found, AfterCommit) and found._session is session  # info may be a copy
    return found if is_its_own else None


def _before_commit(session: Session) -> None:
    if found := _found(session):
        found.prepare()


def _after_commit(session: Session) -> None:
    if found := _found(session):
        found.note_commit()


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    if found := _found(session):
        found.settle(transaction)


# Of all sessions: it takes a session as long as a commit to be given listeners of its own.
event.listen(Session, "before_commit", _before_commit)
event.listen(Session, "after_commit", _after_commit)
event.listen(Session, "after_transaction_end", _after_transaction_end)
