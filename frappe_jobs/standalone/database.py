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
from frappe_jobs.host.databases import POSTGRES_CONFLICTS, UNTIL_CONNECTED
from frappe_jobs.standalone import ended, sqlite
from frappe_jobs.texts.sql import writes

DRIVERS = {"sqlite": "sqlite", "postgres": "postgresql+psycopg", "mariadb": "mysql+pymysql"}

#: Seconds that connecting may take, unless the settings say otherwise.
CONNECT_TIMEOUT = 5

#: What a database says when another transaction is in the way, so that trying again helps:
#: lock wait timeout, deadlock, changed since last read (MariaDB), not locked at once (MySQL);
MYSQL_CONFLICTS = {1205, 1213, 1020, 3572}
#: another connection's lock, another one's in a shared cache.
SQLITE_CONFLICTS = ("database is locked", "database table is locked")


def database_url(conf: Mapping[str, Any], folder: Path) -> URL:
    """The site's database: ``frappe_jobs_database_url``, else Frappe's ``db_…`` keys.

    SQLite in the site's folder by default.  Raises ConfigError for what cannot be one.
    """
    if text := conf.get("frappe_jobs_database_url"):
        return _from_text(text, folder)
    kind = conf.get("db_type") or "sqlite"
    if not isinstance(kind, str) or kind not in DRIVERS:
        raise ConfigError(f"{folder.name}: 'db_type' is {kind!r}; legal: {', '.join(DRIVERS)}.")
    name, socket = conf.get("db_name"), conf.get("db_socket")
    if kind == "sqlite":
        return URL.create("sqlite", database=str(folder / f"{name or 'site'}.db"))
    if not name:  # a driver would take the name of whoever runs this
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
    """Whether there may be tables: SQLite makes a site's file when it is first opened."""
    file = sqlite.file_of(url)
    return not file or os.path.exists(file) or not os.path.isdir(os.path.dirname(file))


def shown(url: URL) -> str:
    """The URL for people to read: no password in it."""
    hidden = {key: "***" for key in url.query if "pass" in key}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def make_engine(url: URL, connect_timeout: int = CONNECT_TIMEOUT) -> Engine:
    """An engine that holds no connection between sessions; raises ConfigError without a driver.

    A server that does not let it in within the seconds, whatever it accepts, is out of reach.
    """
    try:
        arguments = _connect_args(url) | _time_limits(url, connect_timeout)
        engine = create_engine(
            url,
            poolclass=NullPool,
            connect_args=arguments,
            hide_parameters=True,  # an error's text goes into logs and records, and to who asks
        )
    except (NoSuchModuleError, ImportError) as error:
        raise ConfigError(f"The database {shown(url)} needs a driver: {error}.") from None
    if engine.dialect.is_async:
        raise ConfigError(
            f"The database {shown(url)} names an async driver. Jobs are plain functions: name one "
            f"such as {', '.join(DRIVERS.values())}."
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
    """On this very machine, MariaDB without TLS unless the URL speaks of it.

    PyMySQL 1.2 reads all the system's certificates for every connection: 17 ms each time.
    """
    local = url.host in (None, "localhost", "127.0.0.1", "::1")
    if url.get_driver_name() == "pymysql" and local and not any("ssl" in key for key in url.query):
        return {"ssl_disabled": True}
    return {}


def _time_limits(url: URL, seconds: int) -> dict[str, Any]:
    """How long connecting may take, as each driver spells it; what the URL says itself stays.

    PyMySQL's ``connect_timeout`` ends before the server says its first word.
    """
    names = {
        "pymysql": ("connect_timeout", *UNTIL_CONNECTED),
        "mysqldb": ("connect_timeout",),
        "psycopg": ("connect_timeout",),
        "psycopg2": ("connect_timeout",),
    }
    return {name: seconds for name in names.get(url.get_driver_name(), ()) if name not in url.query}


def _wait_for_answers(url: URL) -> Callable[..., None]:
    """Once PyMySQL is connected, a statement may take its time, unless the URL limits it."""

    def connected(connection: Any, _record: object) -> None:
        for name in UNTIL_CONNECTED:
            if name not in url.query:
                setattr(connection, f"_{name}", None)

    return connected


class _Abandoned:
    """What a child process has in place of its parent's connection.

    Letting go of it does nothing; the real one would end the transaction, and then the connection.
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


#: The connections that are open, and in a child those that its parent had open: never closed.
_used: WeakKeyDictionary[PoolProxiedConnection, ConnectionPoolEntry] = WeakKeyDictionary()
_kept: list[object] = []


def _in_use(_: object, entry: ConnectionPoolEntry, connection: PoolProxiedConnection) -> None:
    _used[connection] = entry


def _abandon() -> None:
    """In a child: leave what is open to the parent."""
    for connection, entry in [*_used.items()]:
        _kept.append(connection.dbapi_connection)
        holders: tuple[Any, ...] = (connection, entry)
        for holder in holders:
            holder.dbapi_connection = _Abandoned()
    _used.clear()


os.register_at_fork(after_in_child=_abandon)  # once: it can never be taken back


#: Of a connection: what is called before a statement that may write.
ON_WRITE = "frappe_jobs_on_write"


def watch_writes(connection: Connection, note: Callable[[], None]) -> None:
    """Call that before each statement of the connection that may write."""
    connection.info[ON_WRITE] = note


def _note_write(connection: Connection, _: object, statement: str, *_rest: object) -> None:
    note = connection.info.get(ON_WRITE)
    if note and writes(statement):
        note()


def lock_wait(engine: Engine, seconds: float) -> str:
    """Says to a connection that it waits no longer than that for a lock; then it is an error."""
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
    """While connecting, a database that is down is ours to explain."""
    if context.connection is None and isinstance(context.sqlalchemy_exception, OperationalError):
        raise DatabaseUnavailable(
            f"{shown(context.engine.url)} is out of reach: {context.original_exception}"
        )


def is_lost(error: BaseException) -> bool:
    """Whether it says that the connection was lost, and with it the transaction."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_conflict(error: BaseException) -> bool:
    """A deadlock or a lock wait timeout, by what each database calls it; and what came of it."""
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
