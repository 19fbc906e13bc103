"""The records that every site has, and their tables, which several processes may make at once."""

from __future__ import annotations

from functools import cache
from typing import Any
from weakref import WeakSet

from sqlalchemy import Column, Connection, Engine, inspect
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable, ExecutableDDLElement

from frappe_jobs.errors import TransactionConflict
from frappe_jobs.standalone.background_task import BackgroundTask
from frappe_jobs.standalone.database import is_made
from frappe_jobs.standalone.models import (
    Base,
    ScheduledJobLog,
    ScheduledJobType,
    SchedulerEvent,
    SiteRecord,
)
from frappe_jobs.standalone.outbox_row import OutboxRow

#: By doctype.
RECORDS: dict[str, type[SiteRecord]] = {
    kind.__doctype__: kind
    for kind in (ScheduledJobType, SchedulerEvent, ScheduledJobLog, BackgroundTask)
}

#: The table that has more columns than in an earlier version.
GROWN = Base.metadata.tables[BackgroundTask.__tablename__]

#: Another process may be quicker with each table.
TRIES = len(OutboxRow.metadata.tables) + 1


def make_tables(session: Session, engine: Engine | None = None) -> bool:
    """Make the records' tables, and columns of theirs, that the site does not have yet.

    In a transaction of their own, as MariaDB would commit the session's with them; on SQLite in the
    session's if one is open, as nobody else can write now.  False if they may be rolled back.
    ``engine`` is the site's, where the session's own cannot be used (async).
    """
    bind = engine or session.get_bind()
    beside = bind if isinstance(bind, Engine) else bind.engine
    if has_tables(beside) and not _lacks_columns(beside):
        return True
    if isinstance(bind, Connection) or (beside.name == "sqlite" and session.in_transaction()):
        _create(session.connection())
        return False
    for left in reversed(range(TRIES)):
        try:
            with beside.begin() as connection:
                _create(connection)
            break
        except (DBAPIError, TransactionConflict):  # another process is making them
            if not left:
                raise
    return True


def _create(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        # Looking first would make it a reader, which fails as a writer if another one was quicker.
        for statement in _for_sqlite():
            connection.exec_driver_sql(statement)
    else:
        Base.metadata.create_all(connection)
    for column in _missing_columns(connection):
        made = CreateColumn(column).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {column.table.name} ADD COLUMN {made}")


def _lacks_columns(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(_missing_columns(connection))


def _missing_columns(connection: Connection) -> list[Column[Any]]:
    """Those that an earlier version has not made."""
    there = {one["name"] for one in inspect(connection).get_columns(GROWN.name)}
    return [column for column in GROWN.columns if column.name not in there]


@cache
def _for_sqlite() -> tuple[str, ...]:
    """Compiled once: a bench may have very many sites."""
    statements: list[ExecutableDDLElement] = []
    for table in Base.metadata.sorted_tables:
        statements.append(CreateTable(table, if_not_exists=True))
        statements += [CreateIndex(index, if_not_exists=True) for index in table.indexes]
    return tuple(str(statement.compile(dialect=sqlite.dialect())) for statement in statements)


_ready: WeakSet[Engine] = WeakSet()


def need_tables(session: Session, engine: Engine | None = None) -> None:
    """As ``make_tables``, once for each database in this process."""
    found = engine or session.get_bind().engine
    if not is_ready(found) and make_tables(session, engine):
        _ready.add(found)


def is_ready(engine: Engine) -> bool:
    """Whether its tables were needed before, and are there."""
    return engine in _ready


def has_tables(engine: Engine) -> bool:
    """Whether the database has all the tables; one that was never opened is not made."""
    if not is_made(engine.url):
        return False
    with engine.connect() as connection:
        return {*Base.metadata.tables} <= {*inspect(connection).get_table_names()}
