"""A site's SQLAlchemy engine, and what waits for a session's commit."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.pool import NullPool

from frappe_jobs.config import masked
from frappe_jobs.errors import ConfigError, DatabaseUnavailable

DRIVERS = {"sqlite": "sqlite", "postgres": "postgresql+psycopg", "mariadb": "mysql+pymysql"}

#: What a database says when another transaction is in the way, so that trying again helps.
MYSQL_CONFLICTS = {1205, 1213}
POSTGRES_CONFLICTS = {"40001", "40P01", "55P03"}


def database_url(conf: Mapping[str, Any], folder: Path) -> URL:
    """The site's database: ``frappe_jobs_database_url``, else Frappe's ``db_…`` keys.

    SQLite in the site's folder by default.  Raises ConfigError for a kind that is unknown.
    """
    if text := conf.get("frappe_jobs_database_url"):
        try:
            url = make_url(text)
        except ArgumentError:
            raise ConfigError(
                f"{folder.name}: 'frappe_jobs_database_url' is no URL that SQLAlchemy knows."
            ) from None
        if url.drivername == "sqlite" and url.database and url.database != ":memory:":
            return url.set(database=str(folder / url.database))
        return url
    kind = conf.get("db_type") or "sqlite"
    if kind not in DRIVERS:
        raise ConfigError(f"{folder.name}: 'db_type' is {kind!r}; legal: {', '.join(DRIVERS)}.")
    name = conf.get("db_name")
    if kind == "sqlite":
        return URL.create("sqlite", database=str(folder / f"{name or 'site'}.db"))
    return URL.create(
        DRIVERS[kind],
        username=conf.get("db_user") or name,
        password=conf.get("db_password"),
        host=conf.get("db_host") or "127.0.0.1",
        port=conf.get("db_port"),
        database=name,
    )


def make_engine(url: URL) -> Engine:
    """An engine that holds no connection between jobs, and survives a fork."""
    try:
        engine = create_engine(url, poolclass=NullPool)
    except (NoSuchModuleError, ImportError) as error:
        raise ConfigError(f"The database {masked(str(url))} needs a driver: {error}.") from None
    if url.get_backend_name() == "sqlite":
        # Python's driver begins transactions late and knows no savepoints; SQLAlchemy's documented
        # cure is to begin them ourselves.
        event.listen(engine, "connect", _sqlite_connected)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    event.listen(engine, "handle_error", _unreachable)
    # A child must not speak on a connection of its parent.
    reference = weakref.ref(engine)
    os.register_at_fork(after_in_child=lambda: _dispose(reference()))
    return engine


def _dispose(engine: Engine | None) -> None:
    if engine is not None:
        engine.dispose(close=False)


def _sqlite_connected(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA busy_timeout=10000")


def _unreachable(context: Any) -> None:
    """While connecting, a database that is down is ours to explain."""
    if context.connection is None and isinstance(context.sqlalchemy_exception, OperationalError):
        url = masked(str(context.engine.url)) if context.engine else "the site's database"
        raise DatabaseUnavailable(f"{url} is out of reach: {context.original_exception}")


def is_conflict(error: BaseException) -> bool:
    """A deadlock or a lock wait timeout, by what each database calls it."""
    if not isinstance(error, DBAPIError):
        return False
    cause = error.orig
    if getattr(cause, "sqlstate", None) in POSTGRES_CONFLICTS:
        return True
    first = cause.args[0] if cause and cause.args else None
    return first in MYSQL_CONFLICTS or str(first).startswith("database is locked")


class AfterCommit:
    """Calls what was handed in when the session's transaction commits; drops it on rollback.

    A call that was handed in inside a savepoint is dropped with the savepoint, too.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._calls: list[tuple[SessionTransaction, Callable[[], Any]]] = []
        self._due: list[Callable[[], Any]] = []
        event.listen(session, "after_commit", self._committed)
        event.listen(session, "after_soft_rollback", self._rolled_back)
        event.listen(session, "after_transaction_end", self._ended)

    def add(self, call: Callable[[], Any]) -> None:
        if not self._session.in_transaction():
            self._session.begin()  # so that a rollback of nothing is noticed as well
        transaction = self._session.get_nested_transaction() or self._session.get_transaction()
        if transaction is not None:
            self._calls.append((transaction, call))

    def _committed(self, session: Session) -> None:
        if session.get_nested_transaction() is None:
            self._due += [call for _, call in self._calls]
            self._calls.clear()

    def _rolled_back(self, session: Session, transaction: SessionTransaction) -> None:
        self._calls = [item for item in self._calls if not _within(item[0], transaction)]

    def _ended(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None and self._due:
            # Only now is the commit whole, so that an error in a call cannot harm it.
            due, self._due = self._due, []
            for call in due:
                call()


def _within(inner: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while inner is not None and inner is not outer:
        inner = inner.parent
    return inner is outer
