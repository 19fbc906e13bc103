"""A site's outbox without Frappe: rows that any SQLAlchemy session writes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Table,
    and_,
    bindparam,
    delete,
    insert,
    or_,
    select,
    text,
)
from sqlalchemy.exc import SQLAlchemyError, UnboundExecutionError
from sqlalchemy.orm import Session as DatabaseSession

from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.host.outbox import Outbox, Row
from frappe_jobs.host.session import Session
from frappe_jobs.standalone import sqlite
from frappe_jobs.standalone.outbox_row import OutboxRow
from frappe_jobs.standalone.records import has_tables, is_ready, need_tables

logger = logging.getLogger(__name__)

TABLE: Table = OutboxRow.__table__  # type: ignore[assignment]
COLUMNS = [TABLE.c[column.name] for column in fields(Row)]

#: Blind: what is written does not depend on what was read.
ADD = insert(TABLE).execution_options(**{sqlite.BLIND: True})
DELETE = delete(TABLE).where(TABLE.c.message_id.in_(bindparam("ids", expanding=True)))
#: In a small table MariaDB would read all rows, and wait for those of open transactions.
DELETE_ON_MYSQL = text(
    f"DELETE job FROM {TABLE.name} AS job FORCE INDEX (PRIMARY) WHERE job.message_id IN :ids"
).bindparams(bindparam("ids", expanding=True))

LOCAL = {None, "", "localhost", "127.0.0.1", "::1"}
PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}


class SiteOutbox(Outbox):
    """Reads and writes them; ``engine_of`` gives a site's own database."""

    table = TABLE.name

    def __init__(self, engine_of: Callable[[str], Engine]) -> None:
        self._engine_of = engine_of

    def make_ready(self, session: Session) -> bool:
        db, own = session.db, self._engine_of(session.site)
        if db.bind is own and is_ready(own):
            return True
        try:
            bind = db.get_bind(OutboxRow)
        except UnboundExecutionError:
            return False
        engine = bind.engine if isinstance(bind, Connection) else bind
        if engine is not own and not is_same_database(engine.url, own.url):
            return False
        try:
            need_tables(db, own if bind.dialect.is_async else None)
        except (SQLAlchemyError, FrappeJobsError) as error:  # sent as if there were no outbox
            cause = getattr(error, "orig", error)
            logger.warning("%s has no table for its outbox: %s", session.site, cause)
            return False
        return True

    def add(self, session: Session, rows: Sequence[Row]) -> None:
        values = [vars(row) for row in rows]
        _connection(session.db).execute(ADD, values[0] if len(values) == 1 else values)

    def read(
        self, session: Session, *, before: float, after: Row | None = None, limit: int
    ) -> list[Row]:
        connection = _connection(session.db)
        if not has_tables(connection.engine):
            return []
        order = TABLE.c.written_at, TABLE.c.message_id
        query = select(*COLUMNS).where(order[0] < before).order_by(*order).limit(limit)
        if after:
            same = and_(order[0] == after.written_at, order[1] > after.message_id)
            query = query.where(or_(order[0] > after.written_at, same))
        return [Row(*row) for row in connection.execute(query)]

    def delete(self, session: Session, message_ids: Sequence[str]) -> None:
        connection = _connection(session.db)
        is_mysql = connection.dialect.name in ("mysql", "mariadb")
        statement: Any = DELETE_ON_MYSQL if is_mysql else DELETE
        blind = statement.execution_options(**{sqlite.BLIND: True})
        connection.execute(blind, {"ids": list(message_ids)})


def _connection(db: DatabaseSession) -> Connection:
    """The session's connection for these rows; it may have others for an app's own."""
    return db.connection(bind_arguments={"mapper": OutboxRow})


def is_same_database(url: URL, other: URL) -> bool:
    """Whether both lead to the same database, as far as can be told; a socket is local."""
    if url.get_backend_name() == "sqlite":
        file = sqlite.file_of(url)
        return file is not None and file == sqlite.file_of(other)
    return _place(url) == _place(other)


def _place(url: URL) -> tuple[object, ...]:
    kind = "mysql" if url.get_backend_name() == "mariadb" else url.get_backend_name()
    host = url.host or url.query.get("host")
    is_local = host in LOCAL or str(host).startswith("/")
    port = url.port or PORTS.get(kind)
    return kind, None if is_local else host, port, url.database
