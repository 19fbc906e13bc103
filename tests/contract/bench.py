"""A bench's host as the contract meets it; pytest's plug-in where the suite runs in its Python.

tests/frappe_bench/test_host.py starts that, in the bench's folder ``sites``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import frappe
import pytest
from contract.subject import SECRET, Subject, in_thread

import frappe_jobs
from frappe_jobs import runtime
from frappe_jobs.errors import HostNotReady
from frappe_jobs.host.session import Session

#: In a site's processes, what the contract needs of the server behind it.
IMPATIENT = {
    "mariadb": "set session innodb_lock_wait_timeout = 1",
    "postgres": "set local lock_timeout = '20ms'",
    "sqlite": "pragma busy_timeout = 20",
}
CONNECTION = {"mariadb": "select connection_id()", "postgres": "select pg_backend_pid()"}
KILL = {"mariadb": "kill {}", "postgres": "select pg_terminate_backend({})"}
COUNT = {
    "mariadb": "select count(*) from information_schema.processlist where db = %s",
    "postgres": "select count(*) from pg_stat_activity where datname = %s",
}
#: What cannot be where the site's database is a file.
NO_SERVER = "SQLite is a file: there is no server, and no connection that is lost"
UNQUOTED = "SQLite takes a column that it does not know for a text, and Frappe leaves that to it"
ON_SQLITE = {
    "test_a_database_out_of_reach_says_so_without_its_password": NO_SERVER,
    "test_a_site_whose_configuration_changes_is_opened_anew": NO_SERVER,
    "test_a_lost_connection_is_told_as_what_it_is": NO_SERVER,
    "test_a_rollback_after_a_lost_connection_leads_to_a_new_one": NO_SERVER,
    "test_a_server_that_never_answers_is_out_of_reach_within_seconds": NO_SERVER,
    "test_a_change_that_ends_its_transaction_says_so_and_keeps_it_from_a_commit": "only MariaDB "
    "ends such a transaction",
    "test_a_deadlock_is_a_conflict_of_one_of_the_two": "SQLite has one writer, and no rows to lock",
    **{
        f"test_get_all_refuses_a_field_or_order_that_it_does_not_know[query{n}]": UNQUOTED
        for n in range(4)
    },
}


class Bench(Subject):
    """The bench that this process runs in; the app probe is installed on both sites."""

    name = "on a bench"
    account, order = "Probe Account", "Probe Order"
    method, bare = "probe.tasks.nothing", "probe.tasks.tick"
    borrowed = "probe.tasks.not_of_the_app"
    hook = ("before_job", ["probe.tasks.note_before_job"])
    not_found, duplicate = frappe.DoesNotExistError, frappe.DuplicateEntryError
    closed = HostNotReady
    nowhere = {"db_port": 1, "db_host": "127.0.0.1"}
    refused = {"db_name": "frappe_jobs_nobody", "db_password": SECRET}
    meaningless = {
        "test_sessions_nest_and_the_outer_one_is_back_afterwards": "Frappe has one site open at a "
        "time; a second one is refused",
        "test_a_task_that_outlives_the_session_it_was_started_in_has_none": "frappe.local goes to "
        "the async tasks that are started where it is open",
        "test_what_a_call_hands_in_waits_for_what_it_wrote": "what waits for Frappe's commit is "
        "called until nothing is left, whatever it hands in",
        "test_a_call_that_raises_harms_neither_the_commit_nor_the_others": "the first error of "
        "what waits for Frappe's commit ends that; the rest waits for the next one",
        "test_a_jobs_documents_can_be_read_where_no_site_is_open": "the site says which class a "
        "doctype has",
    }

    def __init__(self, site: str, other: str) -> None:
        self.sites = site, other
        here = runtime.use(Path.cwd())
        self.kind = str(here.settings.sites.config(site).get("db_type") or "mariadb")
        if self.kind == "sqlite":
            self.meaningless = self.meaningless | ON_SQLITE
        with frappe_jobs.site(site):
            db = frappe.db
            errors = (db.ProgrammingError, db.OperationalError, db.InternalError)
        self.failed_statement = (*errors, frappe.QueryTimeoutError, frappe.QueryDeadlockError)
        self.bad_query = (*errors, frappe.ValidationError)

    def empty(self) -> None:
        for site in self.sites:
            with frappe_jobs.site(site):
                for doctype in (self.account, self.order, "Probe Order Item"):
                    frappe.db.delete(doctype)
                frappe.db.delete("Background Task", {"user": "contract"})

    def new_order(self, name: str, customer: str, pieces: Sequence[int]) -> Any:
        order = frappe_jobs.new_doc(self.order, name=name, customer=customer)
        for one in pieces:
            self.add_item(order, one)
        return order

    def add_item(self, order: Any, pieces: int) -> None:
        order.append("items", {"pieces": pieces})

    def ask_of(self, session: Session, statement: str) -> Any:
        return session.db.sql(statement)[0][0]

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        sent: list[str] = []
        db = frappe.local.db
        sql = db.sql

        def note(query: Any, *arguments: Any, **options: Any) -> Any:
            if "Probe" in str(query):
                sent.append(str(query))
            return sql(query, *arguments, **options)

        db.sql = note
        try:
            yield sent
        finally:
            del db.sql

    def savepoint(self) -> None:
        frappe.db.savepoint("contract")

    def spoil_the_commit(self) -> None:
        def fail() -> None:
            raise frappe.DuplicateEntryError

        frappe.db.before_commit.add(fail)

    def be_impatient(self) -> None:
        frappe.db.sql(IMPATIENT[self.kind])

    def see_snapshots(self) -> None:
        frappe.db.sql("set session innodb_snapshot_isolation = ON")

    def connections(self) -> int:
        if self.kind == "sqlite":
            return sum(file.endswith(".db") for file in _open_files())

        def count() -> int:
            with frappe_jobs.site(self.sites[0]):
                own = 1
                return int(frappe.db.sql(COUNT[self.kind], (frappe.conf.db_name,))[0][0]) - own

        return in_thread(count)

    def connection(self) -> Any:
        return self.ask(CONNECTION[self.kind])

    def kill(self, connection: Any) -> None:
        def end() -> None:
            with frappe_jobs.site(self.sites[0]):
                frappe.db.sql(KILL[self.kind].format(connection))

        in_thread(end)

    def logged(self, caplog: pytest.LogCaptureFixture) -> str:
        def read() -> str:
            with frappe_jobs.site(self.sites[0]):
                # All: the newest by time need not be those, where the zone was another.
                rows = frappe.get_all("Error Log", fields=["method", "error"])
                return "\n".join(f"{row.method}: {row.error}" for row in rows)

        return in_thread(read)


def _open_files() -> list[str]:
    """What this process has open."""
    folder = Path("/proc/self/fd")
    return [str(one.readlink()) for one in folder.iterdir() if one.is_symlink()]


@pytest.fixture(scope="session")
def _frappe_bench() -> Bench:
    return Bench(os.environ["CONTRACT_SITE"], os.environ["CONTRACT_OTHER_SITE"])


@pytest.fixture
def frappe_bench(_frappe_bench: Bench) -> Bench:
    _frappe_bench.empty()
    return _frappe_bench
