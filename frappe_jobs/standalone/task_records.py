"""The Background Tasks of a site without Frappe: written in an open transaction, or beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.exc import DBAPIError, UnboundExecutionError
from sqlalchemy.orm import Session as DatabaseSession

from frappe_jobs.background_task.record import LISTED, OPEN, storable
from frappe_jobs.errors import (
    ArgumentError,
    FrappeJobsError,
    RecordNotWritten,
    TransactionConflict,
)
from frappe_jobs.host.session import Session
from frappe_jobs.host.task_records import TaskChange, TaskRecords
from frappe_jobs.standalone import session as sessions
from frappe_jobs.standalone.background_task import BackgroundTask
from frappe_jobs.standalone.database import lock_wait
from frappe_jobs.standalone.ended import end_of
from frappe_jobs.standalone.records import has_tables, need_tables
from frappe_jobs.standalone.sqlite import BLIND

logger = logging.getLogger(__name__)


class SiteTaskRecords(TaskRecords):
    """Reads and writes them; ``engine_of`` gives a site's own database."""

    def __init__(self, engine_of: Callable[[str], Engine]) -> None:
        self._engine_of = engine_of

    # --- in a session's transaction

    def add(self, session: Session, records: Sequence[Mapping[str, Any]]) -> None:
        """Add them; they reach the database with its next flush, at the latest with the commit."""
        tasks = [BackgroundTask(**_row(values)) for values in records]
        for task in tasks:
            task.validate()
        self._make_ready(session.site, session.db)
        session.db.add_all(tasks)

    def _make_ready(self, site: str, db: DatabaseSession) -> None:
        try:
            bind = db.get_bind(BackgroundTask)
        except UnboundExecutionError:
            raise ArgumentError(
                "The session that was handed in has no database for the records of tracked jobs: "
                "bind it to the site's."
            ) from None
        # An async engine cannot be used here; the site's own leads to the same database.
        need_tables(db, self._engine_of(site) if bind.dialect.is_async else None)

    def change(
        self, session: Session, change: TaskChange, *, patience: float | None = None
    ) -> bool:
        """Change a record; if that fails, only the change is rolled back, if the database can."""
        db: DatabaseSession = session.db
        db.flush()  # errors of earlier changes are not ours
        try:
            with db.begin_nested(), _waiting(db.connection(), patience) as connection:
                return bool(connection.execute(_statement(change)).rowcount)
        except (DBAPIError, TransactionConflict) as error:
            if (end := end_of(error)) is None:
                raise _not_written(error) from error
            if end is not error:  # a session that was handed in: refused until its owner rolls back
                db.connection().invalidate(end)
            raise end from None

    # --- beside whatever transaction is open

    def change_beside(
        self,
        site: str,
        changes: Sequence[TaskChange],
        done: Callable[[], object] = lambda: None,
        *,
        patience: float,
    ) -> bool:
        """Change them in a short transaction; on SQLite in the transaction that is open here."""
        engine, open_here = self._engine_of(site), sessions.current()
        if open_here and open_here.site == site and _is_in_the_way(open_here.db):
            try:
                for change in changes:
                    if not self.change(open_here, change, patience=patience):
                        _add_instead(open_here.db.connection(), change)
                open_here.after_commit(done)
                return False
            except RecordNotWritten:  # that transaction has only read, so it is not in the way
                pass
        try:
            with self._writing(engine, patience) as connection:
                for change in changes:
                    if not connection.execute(_statement(change)).rowcount:
                        _add_instead(connection, change)
        except (DBAPIError, TransactionConflict) as error:
            if has_tables(engine):  # else the site has another database by now
                raise _not_written(error) from error
        done()
        return True

    def note_progress(self, session: Session, change: TaskChange) -> bool:
        """Change a record if that cannot hinder the session's transaction.

        It could if that sees the database as it was when it began: a change beside it would be in
        the way of its own changes.
        """
        engine = self._engine_of(session.site)
        sees_changes = engine.dialect.default_isolation_level == "READ COMMITTED"
        if session.db.in_transaction() and not sees_changes:
            return False
        try:
            with self._writing(engine, 0) as connection:
                connection.execute(_statement(change))
        except (DBAPIError, FrappeJobsError) as error:
            logger.debug("the progress of %s is not written: %s", change.task_id, error)
        return True

    @contextmanager
    def _writing(self, engine: Engine, patience: float) -> Iterator[Connection]:
        with engine.begin() as connection:
            _wait_for_locks(connection, patience)
            yield connection

    # --- looking, and clearing

    def recent(self, user: str | None, limit: int) -> list[dict[str, Any]]:
        db = sessions.require_current().db
        columns = [getattr(BackgroundTask, name) for name in LISTED]
        query = select(*columns).order_by(BackgroundTask.creation.desc()).limit(limit)
        if user is not None:
            query = query.where(BackgroundTask.user == user)
        need_tables(db)
        return [dict(row._mapping) for row in db.execute(query)]

    def open(self, site: str, before: datetime) -> dict[str, str]:
        query = select(BackgroundTask.task_id, BackgroundTask.message_id).where(
            BackgroundTask.status.in_(OPEN), BackgroundTask.creation < before
        )
        with self._engine_of(site).connect() as connection:
            if not has_tables(connection.engine):
                return {}
            return {task_id: message_id for task_id, message_id in connection.execute(query)}

    def clear(self, site: str, before: datetime) -> int:
        with self._engine_of(site).begin() as connection:
            if not has_tables(connection.engine):
                return 0
            old = delete(BackgroundTask).where(BackgroundTask.ended_at < before)
            return int(connection.execute(old).rowcount)


@contextmanager
def _waiting(connection: Connection, patience: float | None) -> Iterator[Connection]:
    """Inside it waits for locks no longer than that; on a server until its transaction ends."""
    if patience is None:
        yield connection
        return
    is_sqlite = connection.dialect.name == "sqlite"
    before = connection.exec_driver_sql("PRAGMA busy_timeout").scalar() if is_sqlite else None
    _wait_for_locks(connection, patience)
    try:
        yield connection
    finally:
        if is_sqlite:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={before}")


def _wait_for_locks(connection: Connection, seconds: float) -> None:
    if wait := lock_wait(connection.engine, seconds):
        connection.exec_driver_sql(wait)


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": values["task_id"]} | storable(dict(values))


def _add_instead(connection: Connection, change: TaskChange) -> None:
    known = select(BackgroundTask.name).where(BackgroundTask.name == change.task_id)
    if change.otherwise and connection.execute(known).first() is None:
        connection.execute(insert(BackgroundTask).values(**_row(change.otherwise)))


def _is_in_the_way(db: DatabaseSession) -> bool:
    """Whether a transaction beside the session's might have to wait until that ends (SQLite)."""
    try:
        dialect = db.get_bind(BackgroundTask).dialect
    except UnboundExecutionError:
        return False
    return dialect.name == "sqlite" and not dialect.is_async and db.in_transaction()


def _statement(change: TaskChange) -> Any:
    statement = (
        update(BackgroundTask)
        .where(BackgroundTask.name == change.task_id)
        .values(**storable(dict(change.values)))
        .execution_options(**{BLIND: True})
    )
    if change.message_id is not None:
        statement = statement.where(BackgroundTask.message_id == change.message_id)
    if change.unless_ended is not None:
        is_another = BackgroundTask.message_id != change.unless_ended
        statement = statement.where(is_another | BackgroundTask.status.in_(OPEN))
    if change.statuses:
        statement = statement.where(BackgroundTask.status.in_(change.statuses))
    return statement


def _not_written(error: Exception) -> RecordNotWritten:
    cause = getattr(error, "orig", error)
    return RecordNotWritten(f"Its Background Task could not be written just now: {cause}")
