"""What the errors of a site's database mean, by its driver, even when the site is closed."""

from __future__ import annotations

import os
from typing import Any

import frappe

from frappe_jobs.errors import TransactionEnded
from frappe_jobs.host.databases import POSTGRES_CONFLICTS, SQLITE_CONFLICTS, UNTIL_CONNECTED

DRIVERS = ("pymysql", "MySQLdb", "psycopg2", "sqlite3")
KINDS = ("OperationalError", "InternalError", "InterfaceError")

#: The environment variable of PostgreSQL's limit, in seconds.
POSTGRES_LIMIT = "PGCONNECT_TIMEOUT"

#: MariaDB's codes if a connection cannot be made, is refused, or is lost (0: lost earlier).
OUT_OF_REACH = {
    0, 1040, 1044, 1045, 1049, 1053, 1129, 1130, 1203, 1226, 1698, 2002, 2003, 2005, 2006, 2013,
    2055, 4031, 4151,
}  # fmt: skip
#: MariaDB's codes for a conflict: lock wait timeout, deadlock, changed since last read.
CONFLICTS = {1205, 1213, 1020}
#: MariaDB's codes after it has rolled back the transaction: deadlock, changed since last read, too
#: many locks.
ENDS = {1213, 1020, 1206}
#: PostgreSQL's codes: an administrator ended the connection; it is shutting down, or starting.
POSTGRES_OUT_OF_REACH = {"57P01", "57P02", "57P03"}


def is_conflict(error: BaseException) -> bool:
    """Whether another transaction was in the way, in Frappe's words or the driver's."""
    if isinstance(error, TransactionEnded):
        return error.__cause__ is not None and is_conflict(error.__cause__)
    if isinstance(error, (frappe.QueryDeadlockError, frappe.QueryTimeoutError)):
        return True
    return _is_of_database(error) and (
        error.args[0] in CONFLICTS
        or getattr(error, "pgcode", None) in POSTGRES_CONFLICTS
        or _is_sqlites_lock(error)
    )


def is_out_of_reach(error: BaseException) -> bool:
    """Whether the database could not be reached, or the connection to it was lost."""
    if not _is_of_database(error):
        return False
    if hasattr(error, "pgcode"):  # None if no server answered, or the connection is lost
        return error.pgcode is None or error.pgcode in POSTGRES_OUT_OF_REACH
    return error.args[0] in OUT_OF_REACH


def limit_connecting(db: Any, seconds: int) -> None:
    """Have Frappe's database give up connecting after that time, even if the server is only silent.

    Once it is connected a statement may take its time.  Limits of Frappe's own stay.
    """
    os.environ.setdefault(POSTGRES_LIMIT, str(seconds))  # libpq's, which Frappe does not set
    settings, connect = getattr(db, "get_connection_settings", None), db.get_connection
    if settings is None:
        return
    limits = dict.fromkeys(("connect_timeout",), seconds)
    if any(kind.__module__.endswith("mariadb.database") for kind in type(db).__mro__):
        # PyMySQL's first limit does not include the server's first answer.
        limits |= dict.fromkeys(UNTIL_CONNECTED, seconds)

    def connected() -> Any:
        connection = connect()
        for name in UNTIL_CONNECTED:
            if hasattr(connection, f"_{name}"):
                setattr(connection, f"_{name}", None)
        return connection

    db.get_connection_settings = lambda: {**limits, **settings()}
    db.get_connection = connected


def has_ended_transaction(error: BaseException) -> bool:
    """Whether the whole transaction was rolled back, so that no savepoint is left."""
    if isinstance(error, frappe.QueryDeadlockError):  # on SQLite only the statement is gone
        return not (error.__cause__ and _is_sqlites_lock(error.__cause__))
    return _is_of_database(error) and error.args[0] in ENDS


def keep_from_commit(db: Any, end: BaseException) -> None:
    """Have a commit raise TransactionEnded until the transaction is rolled back."""

    def refuse() -> None:
        db.before_commit.add(refuse)  # code that catches the error may try again
        raise TransactionEnded(
            f"The database has ended this transaction ({end}), and what was written in it is gone: "
            "roll it back (frappe.db.rollback()), and do all of it again."
        ) from end

    db.before_commit.add(refuse)


def _is_sqlites_lock(error: BaseException) -> bool:
    return bool(error.args) and str(error.args[0]).startswith(SQLITE_CONFLICTS)


def _is_of_database(error: BaseException) -> bool:
    return bool(error.args) and any(
        kind.__name__ in KINDS and kind.__module__.partition(".")[0] in DRIVERS
        for kind in type(error).__mro__
    )
