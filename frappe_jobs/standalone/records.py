"""The records that every site has, and their tables, which any number of processes may make."""

from __future__ import annotations

from functools import cache
from weakref import WeakSet

from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from frappe_jobs.errors import TransactionConflict
from frappe_jobs.standalone.background_task import BackgroundTask
from frappe_jobs.standalone.database import is_made
from frappe_jobs.standalone.models import (
    Base,
    Record,
    ScheduledJobLog,
    ScheduledJobType,
    SchedulerEvent,
)
from frappe_jobs.standalone.outbox_row import OutboxRow

#: By doctype.
RECORDS: dict[str, type[Record]] = {
    kind.__doctype__: kind
    for kind in (ScheduledJobType, SchedulerEvent, ScheduledJobLog, BackgroundTask)
}

#: As often as another process may be the first to make one of them: the outbox's is the last.
TRIES = len(OutboxRow.metadata.tables) + 1


def make_tables(session: Session, engine: Engine | None = None) -> bool:
    """Make those of the records' tables that the site does not have yet.

    Beside the session's transaction, which MariaDB would commit with them; on SQLite in it if one
    is open, as nobody else could write now.  Whether they are there whatever becomes of it.
    ``engine`` is the site's, where the session's own may not be used (async).
    """
    bind = engine or session.get_bind()
    beside = bind if isinstance(bind, Engine) else bind.engine
    if has_tables(beside):
        return True
    if isinstance(bind, Connection) or (beside.name == "sqlite" and session.in_transaction()):
        _create(session.connection())
        return False
    for left in reversed(range(TRIES)):
        try:
            with beside.begin() as connection:
                _create(connection)
            break
        except (DBAPIError, TransactionConflict):  # another process makes them at this moment
            if not left:
                raise
    return True


def _create(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        return Base.metadata.create_all(connection)
    # A look first would bind the transaction to what it saw, and whoever is quicker would fail it.
    for statement in _for_sqlite():
        connection.exec_driver_sql(statement)


@cache
def _for_sqlite() -> tuple[str, ...]:
    """Compiled once: a bench may have very many sites."""
    statements: list[ExecutableDDLElement] = []
    for table in Base.metadata.sorted_tables:
        statements.append(CreateTable(table, if_not_exists=True))
        statements += [CreateIndex(index, if_not_exists=True) for index in table.indexes]
    return tuple(str(one.compile(dialect=sqlite.dialect())) for one in statements)


_ready: WeakSet[Engine] = WeakSet()


def need_tables(session: Session, engine: Engine | None = None) -> None:
    """The same, looked for once for each database and process."""
    found = engine or session.get_bind().engine
    if found not in _ready and make_tables(session, engine):
        _ready.add(found)


def has_tables(engine: Engine) -> bool:
    """Whether the database has all of them; one that was never opened is not made for it."""
    if not is_made(engine.url):
        return False
    with engine.connect() as connection:
        return {*Base.metadata.tables} <= {*inspect(connection).get_table_names()}
