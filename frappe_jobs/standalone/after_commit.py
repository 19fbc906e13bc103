"""What waits for a SQLAlchemy session's commit."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

logger = logging.getLogger(__name__)

Call = Callable[[], Any]


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
        event.listen(session, "after_commit", self._note_commit)
        event.listen(session, "after_transaction_end", self._settle)

    @classmethod
    def of(cls, session: Session) -> AfterCommit:
        """The one of that session, however often it is handed in."""
        found = session.info.get(cls.KEY)
        if not isinstance(found, cls) or found._session is not session:  # info may be a copy
            found = session.info[cls.KEY] = cls(session)
        return found

    def add(self, call: Call) -> None:
        """Wait for the transaction that is open now; one is begun if none is.

        Outside of a transaction, a call that is handed in by another call is made right after it.
        """
        transaction = self._innermost()
        if transaction is None and self._due is not None:
            self._due.append(call)
            return
        self._waiting.setdefault(transaction or self._session.begin(), []).append(call)

    def add_once(self, call: Call) -> None:
        """The same, unless an equal call waits for that transaction already."""
        transaction = self._innermost()
        if transaction is None or call not in self._waiting.get(transaction, []):
            self.add(call)

    def _innermost(self) -> SessionTransaction | None:
        return self._session.get_nested_transaction() or self._session.get_transaction()

    def _note_commit(self, session: Session) -> None:
        self._committed = self._innermost()

    def _settle(self, session: Session, transaction: SessionTransaction) -> None:
        """At a transaction's end, which unlike its rollback is told however it comes about."""
        calls = self._waiting.pop(transaction, [])
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
                    due.popleft()()
                except Exception as raised:  # the others' transaction is committed as well
                    if error:
                        logger.exception("a call after a commit failed, and not as the first")
                    error = error or raised
        finally:
            self._due = None
        if error:
            raise error


def _enclosing(transaction: SessionTransaction) -> SessionTransaction | None:
    """The savepoint or transaction around a savepoint; those of a flush are none."""
    outer = transaction.parent
    while outer and outer.parent and not outer.nested:
        outer = outer.parent
    return outer
