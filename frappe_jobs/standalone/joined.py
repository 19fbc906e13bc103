"""A site whose transactions are all part of one, which is rolled back in the end: for tests.

Whoever opens the site meanwhile gets the same connection, and what commits there is a savepoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from frappe_jobs.standalone.sqlite import wait_for_turn


class Joined:
    """Stands where the site's engine does; all else is as with that engine."""

    def __init__(self, engine: Engine, connection: Connection) -> None:
        self.engine, self.connection = engine, connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """The connection that all share."""
        yield self.connection

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """The same, in a savepoint."""
        with self.connection.begin_nested():
            yield self.connection

    def session(self, kind: type[Session]) -> Session:
        """A session whose transactions are savepoints."""
        return kind(self.connection, join_transaction_mode="create_savepoint")


@contextmanager
def joined(engine: Engine) -> Iterator[Joined]:
    """One transaction for all, rolled back at the end whatever happened."""
    with engine.connect() as connection, connection.begin() as transaction:
        wait_for_turn(connection)  # SQLite's; no other connection may write meanwhile
        try:
            yield Joined(engine, connection)
        finally:
            transaction.rollback()
