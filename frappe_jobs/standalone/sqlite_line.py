"""Writers of a SQLite database wait for their turn: in a line, and not for ever."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from frappe_jobs.errors import TransactionConflict

#: Seconds between two looks whether the turn has come.
PAUSE = 0.004
#: Ends the name of the file, beside the database's, whose lock the next writer holds.
LINE = "-line"
#: SQLite's text if another transaction writes, and its code if rows are still to be fetched.
LOCKED, HALF_READ = "database is locked", 517


def begin_immediate(raw: Any, file: str) -> None:
    """Begin a transaction that writes, after those that already wait.

    Raises TransactionConflict when the connection's ``busy_timeout`` is over; nothing is begun.
    """
    milliseconds = int(raw.execute("PRAGMA busy_timeout").fetchone()[0])
    raw.execute("PRAGMA busy_timeout=0")
    try:
        with _line(file) as line:
            for _ in until(milliseconds / 1000):
                if _is_at_the_front(line) and _is_begun(raw):
                    return
    finally:
        raw.execute(f"PRAGMA busy_timeout={milliseconds}")
    raise TransactionConflict(
        f"{os.path.basename(file)}: others were writing for {milliseconds / 1000:g} s, and SQLite "
        "lets one write at a time: roll back, and try again; every writer must commit soon."
    )


def _is_begun(raw: Any) -> bool:
    try:
        raw.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) == HALF_READ:
            raise TransactionConflict(
                "Others have written while this transaction reads rows one by one: fetch all of "
                "them before the first write, or roll back and do all of it again."
            ) from error
        if LOCKED not in str(error):
            raise
        return False
    return True


def until(seconds: float) -> Iterator[None]:
    """At least one turn of a loop, then more, with pauses, until the seconds are over."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    yield
    while time.monotonic() < deadline:
        pause.wait(PAUSE)
        yield


@contextmanager
def _line(file: str) -> Iterator[int | None]:
    """A file to be locked: the process that holds its lock is the next to write.

    None if there can be none.  The database's own file must never be opened here: closing it would
    release SQLite's locks.
    """
    try:
        line = os.open(file + LINE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666) if file else None
    except OSError:
        line = None
    try:
        yield line
    finally:
        if line is not None:
            fcntl.flock(line, fcntl.LOCK_UN)  # a child that was forked meanwhile has it as well
            os.close(line)


def _is_at_the_front(line: int | None) -> bool:
    if line is None:
        return True
    try:
        fcntl.flock(line, fcntl.LOCK_EX | fcntl.LOCK_NB)  # again by its holder is allowed
    except OSError:
        return False
    return True
