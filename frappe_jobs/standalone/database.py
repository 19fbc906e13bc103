"""A site's database: its URL, its SQLAlchemy engine, and what its errors mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolProxiedConnection

from frappe_jobs.errors import (
    ConfigError,
    DatabaseUnavailable,
    HostNotReady,
    TransactionConflict,
    TransactionEnded,
)
from frappe_jobs.host.databases import POSTGRES_CONFLICTS, SQLITE_CONFLICTS, UNTIL_CONNECTED
from frappe_jobs.standalone import ended, sqlite
from frappe_jobs.texts.sql import writes

DRIVERS = {"sqlite": "sqlite", "postgres": "postgresql+psycopg", "mariadb": "mysql+pymysql"}

#: Seconds that connecting may take, unless the settings say otherwise.
CONNECT_TIMEOUT = 5

#: MariaDB's and MySQL's codes for a conflict: lock wait timeout, deadlock, changed since last read,
#: not locked at once.
MYSQL_CONFLICTS = {1205, 1213, 1020, 3572}


def database_url(conf: Mapping[str, Any], folder: Path) -> URL:
    """The site's database: ``frappe_jobs_database_url``, else Frappe's ``db_…`` keys.

    SQLite in the site's folder by default.  Raises ConfigError for what is no database.
    """
    if text := conf.get("frappe_jobs_database_url"):
        return _from_text(text, folder)
    kind = conf.get("db_type") or "sqlite"
    if not isinstance(kind, str) or kind not in DRIVERS:
        raise ConfigError(f"{folder.name}: 'db_type' is {kind!r}; legal: {', '.join(DRIVERS)}.")
    name, socket = conf.get("db_name"), conf.get("db_socket")
    if kind == "sqlite":
        return URL.create("sqlite", database=str(folder / f"{name or 'site'}.db"))
    if not name:  # a driver would take the operating system's user
        raise ConfigError(f"{folder.name}: 'db_type' is {kind!r}, so 'db_name' is needed.")
    try:
        return URL.create(
            DRIVERS[kind],
            username=conf.get("db_user") or name,
            password=conf.get("db_password"),
            host=None if socket else conf.get("db_host") or "127.0.0.1",
            port=conf.get("db_port"),
            database=name,
            query={"host" if kind == "postgres" else "unix_socket": socket} if socket else {},
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{folder.name}: the database's 'db_…' keys are wrong: {error}."
        ) from None


def _from_text(text: object, folder: Path) -> URL:
    try:
        url = make_url(text)  # type: ignore[arg-type]
        if "@" in (url.host or ""):
            raise ValueError("an '@' in the password that is not written %40")
    except (ArgumentError, ValueError):  # their texts hold parts of the URL
        raise ConfigError(
            f"{folder.name}: 'frappe_jobs_database_url' is no URL that SQLAlchemy knows, such as "
            "postgresql+psycopg://user:password@host/database; an '@', ':' or '/' in the password "
            "is written %40, %3A, %2F."
        ) from None
    file = sqlite.file_of(url)
    return url.set(database=str(folder / file)) if file else url


def is_made(url: URL) -> bool:
    """Whether there may be tables: SQLite makes its file when it is first opened."""
    file = sqlite.file_of(url)
    return not file or os.path.exists(file) or not os.path.isdir(os.path.dirname(file))


def shown(url: URL) -> str:
    """The URL for people, without its password."""
    hidden = {key: "***" for key in url.query if "pass" in key}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def make_engine(url: URL, connect_timeout: int = CONNECT_TIMEOUT) -> Engine:
    """An engine that holds no connection between sessions; raises ConfigError without a driver.

    A server that is not connected within ``connect_timeout`` seconds, even if it accepts and says
    nothing, is out of reach.
    """
    try:
        arguments = _connect_args(url) | _time_limits(url, connect_timeout)
        engine = create_engine(
            url,
            poolclass=NullPool,
            pool_reset_on_return=None,  # it is closed then, and what is open rolled back
            connect_args=arguments,
            hide_parameters=True,  # an error's text goes into logs and records
        )
    except (NoSuchModuleError, ImportError) as error:
        raise ConfigError(f"The database {shown(url)} needs a driver: {error}.") from None
    if engine.dialect.is_async:
        raise ConfigError(
            f"The database {shown(url)} names an async driver. Jobs are plain functions: name a "
            f"driver such as {', '.join(DRIVERS.values())}."
        )
    event.listen(engine, "checkout", _in_use)
    if url.get_driver_name() == "pymysql":
        event.listen(engine, "connect", _wait_for_answers(url))
    if url.get_backend_name() == "sqlite":
        sqlite.prepare(engine)
    event.listen(engine, "handle_error", _unreachable)
    event.listen(engine, "before_cursor_execute", _note_write)
    ended.watch(engine)
    return engine


def _connect_args(url: URL) -> dict[str, Any]:
    """On this machine MariaDB is used without TLS, unless the URL says something of it.

    PyMySQL 1.2 reads all the system's certificates for every connection: 17 ms each time.
    """
    local = url.host in (None, "localhost", "127.0.0.1", "::1")
    if url.get_driver_name() == "pymysql" and local and not any("ssl" in key for key in url.query):
        return {"ssl_disabled": True}
    return {}


def _time_limits(url: URL, seconds: int) -> dict[str, Any]:
    """How long connecting may take, as each driver spells it; what the URL itself says stays.

    PyMySQL's ``connect_timeout`` does not include the server's first answer.
    """
    names = {
        "pymysql": ("connect_timeout", *UNTIL_CONNECTED),
        "mysqldb": ("connect_timeout",),
        "psycopg": ("connect_timeout",),
        "psycopg2": ("connect_timeout",),
    }
    return {name: seconds for name in names.get(url.get_driver_name(), ()) if name not in url.query}


def _wait_for_answers(url: URL) -> Callable[..., None]:
    """Gives a listener: once PyMySQL is connected, only the URL limits a statement's time."""

    def connected(connection: Any, _record: object) -> None:
        for name in UNTIL_CONNECTED:
            if name not in url.query:
                setattr(connection, f"_{name}", None)

    return connected


class _Abandoned:
    """What a child process has in place of its parent's connection.

    Rolling back and closing do nothing: they would end the parent's transaction and connection.
    """

    def rollback(self) -> None:
        pass

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise inherited()


def inherited() -> HostNotReady:
    return HostNotReady(
        "The site was opened before this process was forked, and its connection stays its "
        "parent's. Open it in the child: with frappe_jobs.site(…): …"
    )


#: The open connections; and in a child, never closed, those that its parent had open.
_used: WeakKeyDictionary[PoolProxiedConnection, ConnectionPoolEntry] = WeakKeyDictionary()
_kept: list[object] = []


def _in_use(_: object, entry: ConnectionPoolEntry, connection: PoolProxiedConnection) -> None:
    _used[connection] = entry


def _abandon() -> None:
    """In a child: leave the open connections to the parent."""
    for connection, entry in [*_used.items()]:
        _kept.append(connection.dbapi_connection)
        holders: tuple[Any, ...] = (connection, entry)
        for holder in holders:
            holder.dbapi_connection = _Abandoned()
    _used.clear()


os.register_at_fork(after_in_child=_abandon)  # once: it can never be undone


#: The key in a connection's ``info`` of what is called before a statement that may write.
ON_WRITE = "frappe_jobs_on_write"


def watch_writes(connection: Connection, note: Callable[[], None]) -> None:
    """Call ``note`` before each statement of the connection that may write."""
    connection.info[ON_WRITE] = note


def _note_write(connection: Connection, _: object, statement: str, *_rest: object) -> None:
    note = connection.info.get(ON_WRITE)
    if note and writes(statement):
        note()


def lock_wait(engine: Engine, seconds: float) -> str:
    """The statement by which a connection waits for a lock no longer than that; else empty."""
    milliseconds = int(seconds * 1000)
    if engine.name == "sqlite":
        return f"PRAGMA busy_timeout={milliseconds}"
    if engine.name == "postgresql":
        return f"SET LOCAL lock_timeout={max(1, milliseconds)}"  # 0: for ever
    if engine.name in ("mysql", "mariadb"):
        shortest = 0 if getattr(engine.dialect, "is_mariadb", False) else 1
        whole = max(shortest, int(seconds))
        return f"SET innodb_lock_wait_timeout={whole}, lock_wait_timeout={whole}"
    return ""


def _unreachable(context: Any) -> None:
    """Raise DatabaseUnavailable for an error while connecting."""
    if context.connection is None and isinstance(context.sqlalchemy_exception, OperationalError):
        raise DatabaseUnavailable(
            f"{shown(context.engine.url)} is out of reach: {context.original_exception}"
        )


def is_lost(error: BaseException) -> bool:
    """Whether the error says that the connection was lost, and with it the transaction."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_conflict(error: BaseException) -> bool:
    """Whether another transaction was in the way, in any database's words, or caused the error."""
    if isinstance(error, TransactionEnded) and error.__cause__:
        return is_conflict(error.__cause__)
    if not isinstance(error, DBAPIError):
        return isinstance(error, TransactionConflict)
    cause = error.orig
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)  # psycopg 3, 2
    first = cause.args[0] if cause and cause.args else None
    return (
        state in POSTGRES_CONFLICTS
        or first in MYSQL_CONFLICTS
        or str(first).startswith(SQLITE_CONFLICTS)
    )
