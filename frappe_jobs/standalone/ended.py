"""A transaction that its database has ended cannot be gone on with, whoever caught the error.

MariaDB ends one at a deadlock, and where a row has changed since the transaction first read
(``innodb_snapshot_isolation``): what follows would be another transaction, and its commit would say
that all is well.  PostgreSQL answers the COMMIT of one that an error has aborted with a rollback,
and calls that no error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

from frappe_jobs.errors import TransactionEnded

#: MariaDB has rolled back the whole transaction: deadlock, changed since last read, too many locks.
MYSQL_ENDS = {1213, 1020, 1206}
#: And here if its people want that.
MYSQL_TIMEOUT, MYSQL_ENDS_AT_TIMEOUT = 1205, "SELECT @@innodb_rollback_on_timeout"
#: psycopg's word for a transaction that an error has aborted.
POSTGRES_ABORTED = 3
KEY = "frappe_jobs.ended"


def watch(engine: Engine) -> None:
    """Have that engine's connections refuse all but a rollback once the database has ended one."""
    if engine.dialect.name in ("mysql", "mariadb"):
        event.listen(engine, "handle_error", _note_end)
        event.listen(engine, "before_cursor_execute", _refuse, retval=True)
        event.listen(engine, "commit", _refuse_commit)
    elif engine.dialect.name == "postgresql":  # which itself refuses whatever is not a COMMIT
        event.listen(engine, "handle_error", _note_error)
        event.listen(engine, "commit", _refuse_aborted)
    event.listen(engine, "rollback", _forget)


def end_of(error: BaseException) -> BaseException | None:
    """The one that has rolled back more than its statement: it, or what it came of; None: none has.

    No savepoint can be gone back to then; where that was tried, its error hides the first one.
    """
    return next(
        (one for one in _chain(error) if isinstance(one, TransactionEnded) or _ends(one)), None
    )


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
    if statement.startswith("ROLLBACK TO SAVEPOINT"):  # it is gone, with all of them
        return "DO 0", ()
    raise _ended(error)


def _refuse_commit(connection: Connection) -> None:
    if not connection.invalidated and (error := connection.info.get(KEY)):
        raise _ended(error)


def _forget(connection: Connection) -> None:
    if not connection.invalidated:  # of a lost one nothing is left
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
    cause = getattr(error, "orig", None) or error or "an error before"
    ended = TransactionEnded(
        f"The database has ended this transaction ({cause}), and what was written in it is gone: "
        "roll it back (frappe_jobs.db.rollback()), and do all of it again."
    )
    ended.__cause__ = error
    return ended
