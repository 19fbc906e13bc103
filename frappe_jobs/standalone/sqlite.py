"""SQLite as a site's database: readers work side by side, and a writer waits for its turn.

A transaction begins as a reader, which is in nobody's way.  Its first write ends that, waits for
its turn, and begins as a writer; SQLite itself would fail a transaction that had read before.  So
that no update is lost, what it writes is compared with what it has read, if others have committed
meanwhile.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.orm import InstanceState

from frappe_jobs.errors import TransactionConflict
from frappe_jobs.standalone.sqlite_line import LOCKED, begin_immediate, until
from frappe_jobs.texts.sql import CHANGES, NEITHER, READS, kind_of

#: Seconds that a writer waits for its turn, unless its ``busy_timeout`` says otherwise.
TURN_TIMEOUT = 10

#: An execution option: what the statement writes does not depend on what was read before.
BLIND = "frappe_jobs_blind"

SAVEPOINT = re.compile(r"(SAVEPOINT|RELEASE|ROLLBACK TO)(?: SAVEPOINT)? (\S+)", re.IGNORECASE)

KEY = "frappe_jobs.turn"


class Turn:
    """What a connection's transaction has done so far."""

    def __init__(self) -> None:
        self.process, self.thread = os.getpid(), threading.get_ident()
        #: SQLite's number of the state that it reads; None: it has read nothing.
        self.version: int | None = None
        self.writes = False
        #: Others have committed between its first read and its turn.
        self.is_behind = False
        #: The documents that flushes have compared with the database; whether a flush goes on.
        self.verified: WeakSet[InstanceState[Any]] = WeakSet()
        self.is_flushing = False
        self.savepoints: list[str] = []


#: The transactions of this process that write, by the database's file.
_writers: WeakValueDictionary[str, Turn] = WeakValueDictionary()


def prepare(engine: Engine) -> None:
    """Have that engine's transactions begin as readers, and wait for their turn to write."""
    event.listen(engine, "connect", _connected)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "before_cursor_execute", _before)
    for end in ("commit", "rollback"):
        event.listen(engine, end, _end)


def file_of(url: URL) -> str | None:
    """The path of a SQLite database; None if it is no file."""
    file = url.database if url.get_backend_name() == "sqlite" else None
    return None if not file or file.startswith((":memory:", "file:")) else file


def turn_of(connection: Connection) -> Turn | None:
    """The turn of its transaction; None if it is not a SQLite that ``prepare`` has prepared."""
    turn: Turn | None = connection.info.get(KEY)
    return turn


def wait_for_turn(connection: Connection) -> None:
    """Become the writer now, on SQLite; raises TransactionConflict after the ``busy_timeout``."""
    turn = turn_of(connection)
    if turn and not turn.writes:
        _become_writer(connection, turn)


def _connected(connection: sqlite3.Connection, _record: object) -> None:
    # Python's driver begins transactions late and knows no savepoints; as SQLAlchemy's
    # documentation advises, we begin them ourselves.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={TURN_TIMEOUT * 1000}")
    for _ in until(TURN_TIMEOUT):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:  # another process is doing the same
            if LOCKED not in str(error):
                raise
    connection.execute("PRAGMA journal_mode=WAL")


def _begin(connection: Connection) -> None:
    connection.info[KEY] = Turn()
    connection.exec_driver_sql("BEGIN")


def _end(connection: Connection) -> None:
    if connection.invalidated:
        return
    turn = connection.info.pop(KEY, None)
    file = _file(connection)
    if turn and _writers.get(file) is turn:
        del _writers[file]


def _note_savepoint(turn: Turn, statement: str) -> None:
    """Note one that is made; releasing one, or going back to it, ends those made after it."""
    if (found := SAVEPOINT.match(statement)) is None:
        return
    word, name = found[1].upper(), found[2]
    if word == "SAVEPOINT":
        turn.savepoints.append(name)
    elif name in turn.savepoints:
        del turn.savepoints[turn.savepoints.index(name) + (word != "RELEASE") :]


def _before(
    connection: Connection,
    _cursor: Any,
    statement: str,
    _parameters: Any,
    context: Any,
    _many: bool,
) -> None:
    turn = turn_of(connection)
    if turn is None or (turn.writes and not turn.is_behind):
        return
    kind = kind_of(statement)
    if kind == NEITHER:
        return _note_savepoint(turn, statement)
    if kind == READS and not _is_for_update(context):
        if turn.version is None and not turn.writes:
            turn.version = _version(connection.connection.dbapi_connection)
        return
    wait_for_turn(connection)
    is_blind = turn.is_flushing or (context and context.execution_options.get(BLIND))
    if kind == CHANGES and turn.is_behind and not is_blind:
        raise TransactionConflict(
            "Others have written since this transaction first read, so that this statement could "
            "undo their changes: roll back, and do all of it again (a job is run again by itself). "
            "Nobody can write meanwhile in frappe_jobs.site(…, for_update=True). The statement: "
            f"{statement[:200]}"
        )


def _is_for_update(context: Any) -> bool:
    """Whether it was to be FOR UPDATE, which SQLAlchemy leaves out as SQLite does not know it."""
    asked = getattr(getattr(context, "compiled", None), "statement", None)
    return getattr(asked, "_for_update_arg", None) is not None


def _version(raw: Any) -> int:
    """SQLite's number of the state that this transaction sees; others' commits change it."""
    return int(raw.execute("PRAGMA data_version").fetchone()[0])


def _file(connection: Connection) -> str:
    return file_of(connection.engine.url) or ""


# --- the turn


def _become_writer(connection: Connection, turn: Turn) -> None:
    """Begin anew as the writer; if that fails, go on as a reader."""
    raw: Any = connection.connection.dbapi_connection
    file = _file(connection)
    _refuse_to_wait_for_oneself(file, turn)
    raw.execute("ROLLBACK")
    try:
        begin_immediate(raw, file)
    except BaseException:
        raw.execute("BEGIN")
        _save_again(raw, turn)
        raise
    _save_again(raw, turn)
    turn.writes = True
    turn.is_behind = turn.version is not None and _version(raw) != turn.version
    if file:
        _writers[file] = turn


def _save_again(raw: Any, turn: Turn) -> None:
    for name in turn.savepoints:
        raw.execute(f"SAVEPOINT {name}")


def _refuse_to_wait_for_oneself(file: str, turn: Turn) -> None:
    other = _writers.get(file)
    if other and (other.process, other.thread) == (turn.process, turn.thread):
        raise TransactionConflict(
            f"{os.path.basename(file)}: another transaction of this thread has written and is open "
            "still, and SQLite lets one write at a time: commit that one first."
        )
