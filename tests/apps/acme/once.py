"""Jobs that would show that they ran twice, and what may happen to them at their end."""

import os
import signal

from acme import trace
from acme.models import Account
from sqlalchemy import func, select, text

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.context import require_session


def read() -> int:
    return frappe.db.scalar(select(func.count()).select_from(Account))


def deposit(account: str = "cash", amount: int = 5) -> int:
    return frappe.get_doc("Account", account).deposit(amount)


def deposit_and_commit() -> int:
    """A method with a commit of its own at its end."""
    balance = deposit()
    frappe.db.commit()
    return balance


def execute(statement: str) -> None:
    frappe.db.execute(text(statement))


def deposit_and_return(size: int) -> str:
    deposit()
    return "x" * size


def deposit_and_stumble(how: str) -> int:
    """Something goes wrong behind the commit, before commit() has returned."""
    balance, db = deposit(), frappe.db

    def stumble() -> None:
        if how == "conflict":
            raise frappe.RetryBackgroundJobError("behind the commit")
        kill = {
            "postgresql": "SELECT pg_terminate_backend(pg_backend_pid())",
            "mysql": "KILL CONNECTION_ID()",
            "mariadb": "KILL CONNECTION_ID()",
        }
        db.execute(text(kill[db.get_bind().dialect.name]))
        db.execute(text("SELECT 1"))

    require_session().after_commit(stumble)
    return balance


def deposit_meanwhile(what: str) -> int:
    """While it runs its lease is given to somebody else, or it is cancelled."""
    balance = deposit()
    ledger, message = runtime.current().ledger, frappe.get_current_job().message
    if what == "run elsewhere":
        ledger.release(message, frappe.get_current_job().holder)
        ledger.start(message, "worker@there/2")
    else:
        ledger.cancel([message], "not wanted")
    return balance


def count(number: int, rows: int, die: str = "") -> int:
    """Add 1 to one of the rows; the first run may be killed just before or behind its commit."""
    frappe.db.execute(
        text("UPDATE account SET balance = balance + 1 WHERE name = :name"),
        {"name": str(number % rows)},
    )
    if die == "before":
        _die_first(number)
    elif die == "behind":
        require_session().after_commit(lambda: _die_first(number))
    return number


def _die_first(number: int) -> None:
    try:
        os.close(os.open(trace.path().parent / f"died{number}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
