"""A site whose transactions are all part of one that is open: for tests.

Whoever opens the site meanwhile gets the same connection, and what commits there is a savepoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from types import FunctionType, MethodType
from typing import Any

import frappe
from frappe.database.database import Database
from frappe.utils import CallbackManager

from frappe_jobs.errors import HostError

CALLBACKS = ("before_commit", "after_commit", "before_rollback", "after_rollback")
#: With these MariaDB commits what is open.
COMMITTING = ("alter", "create", "drop", "rename", "truncate", "lock")

_names = count(1)
#: For each site the database in whose open transaction all is done.
_joined: dict[str, Any] = {}


class Savepoints:
    """Stands before a class of Frappe's databases: its transactions are savepoints."""

    db_type: str
    transaction_writes: int
    #: Where a rollback leads to: the last commit.
    _place: str

    def sql(self, query: Any, *values: Any, **options: Any) -> Any:
        """As Frappe's, and a statement that ends a transaction ends a savepoint."""
        send, word = super().sql, first_word(query)  # type: ignore[misc]
        if word == "commit":
            send(f"release savepoint {self._place}")
            send(f"savepoint {self._place}")
        elif word == "rollback" and "savepoint" not in str(query).lower():
            send(f"rollback to savepoint {self._place}")
        elif word not in ("begin", "start"):  # which follow a commit or a rollback
            return send(query, *values, **options)
        if word in ("commit", "rollback"):
            self.transaction_writes = 0
        return ()

    def commit(self, **options: Any) -> None:
        """By a statement; SQLite's own has the connection commit."""
        if self.db_type == "sqlite":
            Database.commit(self, **options)
        else:
            super().commit(**options)  # type: ignore[misc]

    def rollback(self, **options: Any) -> None:
        """The same."""
        if self.db_type == "sqlite":
            Database.rollback(self, **options)
        else:
            super().rollback(**options)  # type: ignore[misc]

    def check_implicit_commit(self, query: str, *more: Any) -> None:
        """Raises HostError for a statement that would commit the test's transaction."""
        words = query.lower().split(None, 2)
        if self.db_type == "mariadb" and words[:1] and words[0] in COMMITTING:
            if words[1:2] != ["temporary"]:
                raise HostError(
                    "With this statement MariaDB commits what is open, a test's transaction as "
                    f"well: {query[:60]!r}. Do it before, as in setUpClass."
                )
        super().check_implicit_commit(query, *more)  # type: ignore[misc]


class View(Savepoints):
    """The database of one who opens the site; its end is no end of the connection."""

    _conn: Any

    def connect(self) -> None:
        raise HostError("This session of a test's site is closed.")

    def close(self) -> None:
        """Undo what is not committed."""
        if self._conn:
            self.sql("rollback")
            self.sql(f"release savepoint {self._place}")
            self._conn = None


def first_word(query: Any) -> str:
    words = str(query).split(None, 1)
    return words[0].lower().rstrip(";") if words else ""


def _kind(ours: Any, frappes: Any) -> Any:
    """Our class before Frappe's."""
    return type(ours.__name__, (ours, frappes), {})


def view_of(site: str) -> Any:
    """A database for one who opens the site, if it is joined; else None."""
    if not (db := _joined.get(site)):
        return None
    kind = _kind(View, next(one for one in type(db).__mro__ if not issubclass(one, Savepoints)))
    view = kind.__new__(kind)
    ours = (FunctionType, MethodType)  # what others have put before the methods of that one
    vars(view).update({k: v for k, v in vars(db).items() if not isinstance(v, ours)})
    vars(view).update({name: CallbackManager() for name in CALLBACKS})
    view.value_cache = db.value_cache.copy()  # with what it makes of a name that is not there
    view.value_cache.clear()
    view.transaction_writes = 0
    view._place = f"frappe_jobs_{next(_names)}"
    view.sql(f"savepoint {view._place}")
    return view


def is_a_tests(site: str) -> bool:
    """Whether that site is a test's at the moment."""
    return site in _joined


def is_joined(db: Any) -> bool:
    """Whether that database shares its connection with others."""
    return isinstance(db, Savepoints)


@contextmanager
def shared(site: str) -> Iterator[None]:
    """Inside, whoever opens that site works in the transaction that is open here."""
    before = _joined.get(site)
    _joined[site] = frappe.local.db
    try:
        yield
    finally:
        _joined.pop(site)
        if before is not None:
            _joined[site] = before


@contextmanager
def rolled_back(site: str) -> Iterator[None]:
    """The same, and commits here are savepoints as well: in the end all is as it was.

    What waits for a commit here goes on waiting for it.
    """
    db = frappe.local.db
    outer, frappes, writes = f"frappe_jobs_{next(_names)}", type(db), db.transaction_writes
    waiting = {name: getattr(db, name) for name in CALLBACKS}
    db.sql(f"savepoint {outer}")
    db.__class__, db._place = _kind(Savepoints, frappes), f"frappe_jobs_{next(_names)}"
    vars(db).update({name: CallbackManager() for name in CALLBACKS})
    db.sql(f"savepoint {db._place}")
    try:
        with shared(site):
            yield
    finally:
        try:
            db.rollback()
        finally:
            db.__class__ = frappes
            vars(db).update(waiting)
            db.sql(f"rollback to savepoint {outer}")
            db.sql(f"release savepoint {outer}")
            db.transaction_writes = writes
            forget_what_was_read()


def forget_what_was_read() -> None:
    """What the open site's session keeps of the database in memory may be old."""
    frappe.db.value_cache.clear()
    frappe.local.cache = {}
