"""Jobs that would show that they ran twice, and what may happen to them at their end."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

from acme import trace
from acme.models import Account
from sqlalchemy import func, select, text

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.context import require_session
from frappe_jobs.host.done_markers import DoneMarker


def read() -> int:
    return frappe.db.scalar(select(func.count()).select_from(Account))


def deposit(account: str = "cash", amount: int = 5) -> int:
    return frappe.get_doc("Account", account).deposit(amount)


def deposit_and_commit(again: bool = False) -> int:
    """A method with a commit of its own at its end; the first run may not come to its own end."""
    balance = deposit()
    frappe.db.commit()
    if again and _is_first("commit"):
        raise frappe.RetryBackgroundJobError("behind a commit of its own")
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
    count_one(number, rows)
    if die == "before":
        _die_first(number)
    elif die == "behind":
        require_session().after_commit(lambda: _die_first(number))
    return number


def _die_first(number: int) -> None:
    if _is_first(f"died {number}"):
        os.kill(os.getpid(), signal.SIGKILL)


def add_one() -> int:
    frappe.db.execute(text("UPDATE account SET balance = balance + 1 WHERE name = 'cash'"))
    return frappe.db.scalar(text("SELECT balance FROM account WHERE name = 'cash'"))


def in_steps(fail_at: int) -> list:
    return [frappe.step(f"step {number}", _one_step, number, fail_at) for number in range(3)]


def _one_step(number: int, fail_at: int) -> int:
    balance = add_one()
    if number == fail_at and _is_first(f"step {number}"):
        raise ValueError("the step fails")
    return balance


def same_step_twice() -> list:
    return [frappe.step("one", add_one) for _ in range(2)]


def long_step(size: int) -> None:
    frappe.step("long", deposit_and_return, size)


def loop(rows, count, every, fail_at=None, seconds=0.0, gone=None, fail_behind=False) -> int:
    """Add 1 for each row; the first run may fail at one, or behind the last."""
    numbers = [*range(1, count + 1)]
    if gone and not _is_first("gone"):
        numbers.remove(gone)
    key = None if rows == "list" else int
    source = (
        (lambda last: [n for n in numbers if n > (last or 0)]) if rows == "function" else numbers
    )
    for number in frappe.resume(source, key, every=every, seconds=60):
        add_one()
        time.sleep(seconds)
        if number == fail_at and _is_first(f"row {number}"):
            raise ValueError(f"row {number} fails")
    if fail_behind and _is_first("behind"):
        raise ValueError("behind the loop")
    return count


def two_loops() -> None:
    for _ in range(2):
        for _ in frappe.resume([1]):
            pass


def loop_twice_at_once(count: int) -> int:
    """While the first run is in its first batch, another one that stood still commits its own."""
    for _ in frappe.resume(range(count), every=2):
        if _is_first("another"):
            here, job = runtime.current(), frappe.get_current_job()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(_batch_of_another, here, job.message.id).result()
        add_one()
    return count


def _batch_of_another(here, message_id: str) -> None:
    with here.host.session("site1") as session:
        place = DoneMarker(f"{message_id} rows", "another run", '{"rows": 2, "at": null}')
        here.host.done_markers.put(session, place)
        session.db.execute(text("UPDATE account SET balance = balance + 2 WHERE name = 'cash'"))


def _is_first(what: str) -> bool:
    job = frappe.get_current_job()
    try:
        os.close(os.open(trace.path().parent / f"{job.id} {what}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def long_loop(count: int, rows: int, seconds: float = 0.0) -> int:
    """Add 1 to one of the rows for each number, and note that it was begun."""
    with (trace.path().parent / "begun").open("a", buffering=1) as begun:
        for number in frappe.resume(range(count)):
            begun.write(f"{number}\n")
            count_one(number, rows)
            if seconds:
                time.sleep(seconds)
    return count


def dying_loop(count: int) -> int:
    """Kills its own process at each row, behind the commit of the one before."""
    for number in frappe.resume(range(count), every=1):
        _die_first(number)
    return count


def count_one(number: int, rows: int) -> None:
    frappe.db.execute(
        text("UPDATE account SET balance = balance + 1 WHERE name = :name"),
        {"name": str(number % rows)},
    )
