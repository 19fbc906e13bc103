"""Of a transaction that its database has ended only a rollback is left, whoever caught the error.

MariaDB ends a transaction at a deadlock, and if a row has changed since it first read
(``innodb_snapshot_isolation``): what follows would be another transaction, and its commit would
succeed.  PostgreSQL answers the COMMIT of an aborted transaction with a rollback, and no error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

from frappe_jobs.errors import TransactionEnded

#: MariaDB's codes after it has rolled back a transaction: deadlock, changed since last read, too
#: many locks.
MYSQL_ENDS = {1213, 1020, 1206}
#: A lock wait timeout, after which it has done so only with this setting.
MYSQL_TIMEOUT, MYSQL_ENDS_AT_TIMEOUT = 1205, "SELECT @@innodb_rollback_on_timeout"
#: psycopg's status of a transaction that an error has aborted.
POSTGRES_ABORTED = 3
KEY = "frappe_jobs.ended"


def watch(engine: Engine) -> None:
    """Have the engine's connections refuse all but a rollback in an ended transaction."""
    if engine.dialect.name in ("mysql", "mariadb"):
        event.listen(engine, "handle_error", _note_end)
        event.listen(engine, "before_cursor_execute", _refuse, retval=True)
        event.listen(engine, "commit", _refuse_commit)
    elif engine.dialect.name == "postgresql":  # which itself refuses all but a COMMIT
        event.listen(engine, "handle_error", _note_error)
        event.listen(engine, "commit", _refuse_aborted)
    event.listen(engine, "rollback", _forget)


def end_of(error: BaseException) -> BaseException | None:
    """The error, or the cause of it, that ended the transaction; None: only a statement failed.

    No savepoint is left then; the error of going back to one hides the first error.
    """
    chain = _chain(error)
    return next((link for link in chain if isinstance(link, TransactionEnded) or _ends(link)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _ends(error: BaseException) -> bool:
    arguments = error.orig.args if isinstance(error, DBAPIError) and error.orig else ()
    return bool(arguments) and arguments[0] in MYSQL_ENDS


def _note_end(context: Any) -> None:
    connection, error = context.connection, context.original_exception
    if connection is None or context.is_disconnect or not error.args:
        return
    if error.args[0] in MYSQL_ENDS or (
        error.args[0] == MYSQL_TIMEOUT and _ends_at_timeout(connection)
    ):
        connection.info[KEY] = context.sqlalchemy_exception or error


def _ends_at_timeout(connection: Connection) -> bool:
    cursor: Any = connection.connection.cursor()
    try:
        cursor.execute(MYSQL_ENDS_AT_TIMEOUT)
        return bool(cursor.fetchone()[0])
    finally:
        cursor.close()


def _refuse(
    connection: Connection,
    _cursor: Any,
    statement: str,
    parameters: Any,
    _context: Any,
    _many: bool,
) -> tuple[str, Any]:
    error = connection.info.get(KEY)
    if error is None:
        return statement, parameters
    if statement.startswith("ROLLBACK TO SAVEPOINT"):  # all savepoints are gone
        return "DO 0", ()
    raise _ended(error)


def _refuse_commit(connection: Connection) -> None:
    if not connection.invalidated and (error := connection.info.get(KEY)):
        raise _ended(error)


def _forget(connection: Connection) -> None:
    if not connection.invalidated:  # a lost connection has nothing left
        connection.info.pop(KEY, None)


def _note_error(context: Any) -> None:
    if context.connection is not None and not context.is_disconnect:
        context.connection.info[KEY] = context.sqlalchemy_exception or context.original_exception


def _refuse_aborted(connection: Connection) -> None:
    if connection.invalidated:
        return
    state = getattr(connection.connection.dbapi_connection, "info", None)
    if getattr(state, "transaction_status", None) == POSTGRES_ABORTED:
        raise _ended(connection.info.get(KEY))


def _ended(error: BaseException | None) -> TransactionEnded:
    cause = getattr(error, "orig", None) or error or "an earlier error"
    ended = TransactionEnded(
        f"The database has ended this transaction ({cause}), and what was written in it is gone: "
        "roll it back (frappe_jobs.db.rollback()), and do all of it again."
    )
    ended.__cause__ = error
    return ended
