"""The standalone host as the contract meets it: acme and library, on a kind of database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from contract.subject import SECRET, Subject
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError

import frappe_jobs as frappe
from frappe_jobs.errors import ArgumentError, DoesNotExistError, TransactionConflict
from frappe_jobs.host.session import Session

IMPATIENT = {
    "sqlite": "PRAGMA busy_timeout=1",
    "postgres": "SET LOCAL lock_timeout = '20ms'",
    "mariadb": "SET innodb_lock_wait_timeout = 1",
}
CONNECTION = {"postgres": "SELECT pg_backend_pid()", "mariadb": "SELECT connection_id()"}
KILL = {"postgres": "SELECT pg_terminate_backend({})", "mariadb": "KILL {}"}


@contextmanager
def statements(session: Any) -> Iterator[list[str]]:
    """The SQL that is sent on that session meanwhile."""
    sent: list[str] = []
    engine = session.db.get_bind()

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


class Standalone(Subject):
    """Two sites whose tables are there and empty."""

    name = "standalone"
    sites = ("site1", "site2")
    account, order = "Account", "Sales Order"
    method, bare, borrowed = "acme.tasks.echo", "acme.tasks.ping", "acme.tasks.system"
    hook = ("before_job", ["acme.trace.before_job"])
    not_found, duplicate = DoesNotExistError, IntegrityError
    failed_statement = DBAPIError, TransactionConflict
    closed, bad_query = InvalidRequestError, ArgumentError

    def __init__(self, server: Any) -> None:
        self.server = server
        if server.kind == "sqlite":
            self.nowhere = {"frappe_jobs_database_url": "sqlite:///no/such/folder/x.db"}
            self.refused = {"frappe_jobs_database_url": "sqlite:////proc/x.db"}
        else:
            self.nowhere = {"db_port": 1, "db_host": "127.0.0.1", "db_password": SECRET}
            self.refused = {"db_user": "frappe_jobs_nobody", "db_password": SECRET}

    def new_order(self, name: str, customer: str, pieces: Sequence[int]) -> Any:
        items = [
            frappe.new_doc("Sales Order Item", name=f"i{number}", pieces=one)
            for number, one in enumerate(pieces)
        ]
        return frappe.new_doc(self.order, name=name, customer=customer, items=items)

    def add_item(self, order: Any, pieces: int) -> None:
        order.items.append(frappe.new_doc("Sales Order Item", name="last", pieces=pieces))

    def ask_of(self, session: Session, statement: str) -> Any:
        return session.db.execute(text(statement)).scalar()

    def statements(self) -> Any:
        return statements(self.host.require_current())

    def savepoint(self) -> None:
        frappe.db.begin_nested()

    def spoil_the_commit(self) -> None:
        frappe.db.add_all([frappe.new_doc(self.account, name="twice") for _ in range(2)])

    def be_impatient(self) -> None:
        frappe.db.execute(text(IMPATIENT[self.server.kind]))

    def see_snapshots(self) -> None:
        frappe.db.execute(text("SET SESSION innodb_snapshot_isolation = ON"))

    def connections(self) -> int:
        found: int = self.server.connections()
        return found

    def connection(self) -> Any:
        return self.ask(CONNECTION[self.server.kind])

    def kill(self, connection: Any) -> None:
        self.server.run(KILL[self.server.kind].format(connection))

    def logged(self, caplog: pytest.LogCaptureFixture) -> str:
        return caplog.text
