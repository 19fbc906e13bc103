"""On SQLite no document overwrites another transaction's change.

A session that becomes a writer after it has read begins a new transaction, so what it is about to
write is compared with what is there now.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Engine, event, inspect, select
from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.base import NEVER_SET, NO_VALUE

from frappe_jobs.errors import TransactionConflict
from frappe_jobs.standalone.joined import Joined
from frappe_jobs.standalone.sqlite import turn_of, wait_for_turn


class SqliteSession(Session):
    """A session whose documents overwrite nobody's changes."""


def open_session(engine: Engine | Joined) -> Session:
    """A session whose documents overwrite nobody's changes, whatever the kind of database."""
    kind = SqliteSession if engine.dialect.name == "sqlite" else Session
    return engine.session(kind) if isinstance(engine, Joined) else kind(engine)


def _compare_with_the_database(session: Session, *_: object) -> None:
    """Before a flush: raise TransactionConflict if it would overwrite another's change."""
    old = [*session.deleted, *filter(session.is_modified, session.dirty)]
    if not old and not session.new:
        return
    connection = session.connection()
    turn = turn_of(connection)
    if turn is None:
        return
    wait_for_turn(connection)
    turn.is_flushing = True  # what it sends from here on is compared
    for document in old if turn.is_behind else ():
        state = inspect(document)
        if state not in turn.verified:
            _require_unchanged(session, state)
    turn.verified.update(map(inspect, (*old, *session.new)))


def _flushed(session: Session, _context: object) -> None:
    if turn := turn_of(session.connection()):
        turn.is_flushing = False


def _require_unchanged(session: Session, state: InstanceState[Any]) -> None:
    mapper, identity = state.mapper, state.identity
    known = _as_read(state)
    if getattr(mapper.class_, "__noted_beside__", False):
        known = {key: value for key, value in known.items() if key in state.committed_state}
    if not known or identity is None:
        return
    is_it = (column == value for column, value in zip(mapper.primary_key, identity, strict=True))
    query = select(*(getattr(mapper.class_, key) for key in known)).where(*is_it)
    row = session.execute(query).one_or_none()
    if row is None or any(now != known[key] for key, now in row._mapping.items()):
        document = state.obj()
        kind = getattr(document, "doctype", type(document).__name__)
        raise TransactionConflict(
            f"{kind} {', '.join(map(str, identity))} was changed by another transaction after this "
            "one had read it: roll back, and do all of it again (a job is run again by itself). "
            "A document that is read with get_doc(…, for_update=True) cannot change."
        )


def _as_read(state: InstanceState[Any]) -> dict[str, Any]:
    """The values of its columns as they were read; those that were not read are left out."""
    known: dict[str, Any] = {}
    for attribute in state.mapper.column_attrs:
        key = attribute.key
        value = state.committed_state.get(key, state.dict.get(key, NO_VALUE))
        is_stored = isinstance(attribute.columns[0], Column)
        if is_stored and value is not NO_VALUE and value is not NEVER_SET:
            known[key] = value
    return known


event.listen(SqliteSession, "before_flush", _compare_with_the_database)
event.listen(SqliteSession, "after_flush", _flushed)
