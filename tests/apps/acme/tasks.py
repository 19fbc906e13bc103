"""acme's jobs."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import time
from importlib import import_module
from os import system  # noqa: F401 - re-exported, and must not be runnable
from pathlib import Path

from acme.models import Account, Base
from acme.trace import alone, mark, room
from celery import shared_task
from celery.exceptions import Ignore, Reject

import frappe_jobs as frappe

#: The process that imported this app.
IMPORTED_BY = os.getpid()


def install() -> None:
    Base.metadata.create_all(frappe.db.get_bind())


def ping() -> str:
    return "pong"


def add(x: int, y: int = 0) -> int:
    mark("add", x=x, y=y)
    return x + y


def echo(**kwargs) -> dict:
    mark("echo", kwargs=kwargs)
    return kwargs


def whoami() -> list:
    job = frappe.get_current_job()
    return [
        frappe.local.site,
        frappe.session.user,
        job.id,
        job.queue,
        job.method,
        job.attempt,
    ]


def deposit(account: str, amount: int = 1, fail: bool = False) -> int:
    balance = frappe.get_doc("Account", account).deposit(amount)
    if fail:
        raise ValueError(f"no deposit to {account}")
    return balance


def fail(text: str = "on purpose") -> None:
    mark("fail")
    raise ValueError(text)


def fail_holding(size: int) -> None:
    """With an error, after another one that a frame with much in it holds, and it that frame.

    Python's collector does not help.
    """
    gc.disable()
    held = bytearray(size)
    try:
        _fail_in_a_circle(size)
    except RuntimeError as error:
        raise ValueError(f"{len(held)} bytes") from error


def _fail_in_a_circle(size: int) -> None:
    held = bytearray(size)
    try:
        raise KeyError(len(held))
    except KeyError as error:
        kept = error
    raise RuntimeError("from a circle") from kept


def sleep(seconds: float, name: str = "") -> str:
    mark("sleep", name=name)
    time.sleep(seconds)
    return name


def work(seconds: float, name: str = "") -> str:
    """A run with a beginning and an end, so that two at once can be seen."""
    mark("begin", name=name)
    time.sleep(seconds)
    mark("end", name=name)
    return name


def run(number: int, seconds: float = 0.0, spawn: int | None = None, again: bool = False) -> int:
    """A run whose begin and end are written down, and whether another one of it lived then.

    It can enqueue another one, of that number, and ask for a second attempt.
    """
    job = frappe.get_current_job()
    facts = {"number": number, "job": job.id, "message": job.message.id}
    with alone(job.message.id) as is_alone:
        mark("begin", alone=is_alone, **facts)
        try:
            time.sleep(seconds)
            if again and job.attempt == 1:
                raise frappe.RetryBackgroundJobError(f"{number}, again")
            if spawn is not None:
                frappe.enqueue(run, job_id=f"spawned {spawn}", number=spawn, seconds=seconds)
        finally:
            mark("end", **facts)
    return number


def run_limited(number: int, key: str, most: int, seconds: float = 0.0) -> int:
    """A run, which says if more than so many of its key live."""
    with room(key, most) as has_room:
        if not has_room:
            mark("no room", key=key, number=number)
        return run(number, seconds)


def run_at_rate(number: int, key: str, again: bool = False) -> int:
    """A run; of each key's a limit lets only so many begin in a time."""
    return run(number, again=again)


def sleep_on(seconds: float) -> None:
    """Swallow the timeout, as badly written jobs do."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            time.sleep(deadline - time.monotonic())
        except Exception:  # noqa: B902
            mark("swallowed")


def catch_timeout(module: str, name: str) -> str:
    """Catch the timeout as an app does that was written for RQ, or for Celery."""
    try:
        time.sleep(60)
    except getattr(import_module(module), name):
        return "caught"


def hold(until: str) -> None:
    """Keep the worker busy until that file is there."""
    mark("hold")
    while not Path(until).exists():
        time.sleep(0.01)


def progress(**said) -> None:
    frappe.publish_progress(40, **said)


def steer(how: str) -> None:
    """Raise what would mean something to Celery, or to the process."""
    errors = {"ignore": Ignore(), "reject": Reject(requeue=True), "exit": SystemExit(3)}
    raise errors.get(how) or MemoryError("too much")


def die(signal_name: str = "SIGKILL") -> None:
    os.kill(os.getpid(), getattr(signal, signal_name))


def die_first(until: str) -> None:
    """Kill its process at its first start, and keep the worker busy at the next."""
    if frappe.get_current_job().attempt == 1:
        die()
    hold(until)


def start_processes() -> list:
    """How those that a job starts, and that it forks, end when they are sent SIGTERM."""
    started = subprocess.Popen(["sleep", "30"])
    ready, tell = os.pipe()
    forked = os.fork()
    if forked == 0:
        os.write(tell, b"!")
        time.sleep(30)
        os._exit(0)
    os.read(ready, 1)  # Python forgets a signal that comes in the middle of its fork
    started.terminate()
    os.kill(forked, signal.SIGTERM)
    return [-started.wait(10), os.waitpid(forked, 0)[1]]


def return_it(what: str) -> object:
    return {
        "object": object(),
        "upset": "upset the after_job hook",
        "end": "end the after_job hook",
    }[what]


def who_imported() -> list:
    """The process that imported this app, and the one that this one was forked from."""
    return [IMPORTED_BY, os.getppid()]


def on_success(job, connection, result) -> None:
    mark(
        "on_success",
        job=job.id,
        status=job.status,
        result=result,
        ping=connection.ping(),
    )


def end_the_process(job, connection, result) -> None:
    raise SystemExit(3)


def leave_a_duplicate(job, connection, result) -> None:
    """It shows when the site is closed, which commits."""
    frappe.db.add_all([Account(name="twice"), Account(name="twice")])


def on_failure(job, connection, type, value, traceback) -> None:
    mark(
        "on_failure",
        job=job.id,
        status=job.status,
        type=type.__name__,
        value=str(value),
    )


def enqueue_further(rollback: bool) -> None:
    """Enqueue from inside a job, for its commit."""
    frappe.enqueue(add, x=7, enqueue_after_commit=True)
    if rollback:
        raise ValueError("rolled back")


def enqueue_now() -> str:
    return frappe.enqueue("acme.tasks.ping", now=True)


@shared_task
def celery_current_job() -> str:
    return repr(frappe.get_current_job())


class Calculator:
    @staticmethod
    def double(x: int) -> int:
        return 2 * x


@shared_task
def celery_add(x: int, y: int) -> int:
    """A task of a team that knew Celery before."""
    mark_file = os.environ.get("ACME_CELERY_MARK")
    if mark_file:
        Path(mark_file).touch()
    return x + y


def fail_first() -> int:
    """Fail at the first attempt."""
    attempt = frappe.get_current_job().attempt
    if attempt == 1:
        raise ValueError("the first attempt")
    return attempt


def give_up() -> None:
    """Fail; at the second attempt for good."""
    job = frappe.get_current_job()
    was = job.retries.left
    if job.attempt == 2:
        job.retries.left = 0
    raise ValueError(f"{was} left")


def succeed_at_last(attempts: int) -> int:
    """Ask for another attempt until there were so many."""
    attempt = frappe.get_current_job().attempt
    mark("attempt", attempt=attempt)
    if attempt < attempts:
        raise frappe.RetryBackgroundJobError(f"attempt {attempt}")
    return attempt


def reach_other(site: str) -> None:
    """Work on this site, then on another one."""
    Base.metadata.create_all(frappe.db.get_bind())
    frappe.get_all("Account")
    with frappe.site(site):
        frappe.get_all("Account")


def fail_after_commit() -> None:
    """Leave a call behind that fails when this job is committed."""
    from frappe_jobs.context import require_session

    def object_to_it() -> None:
        raise ValueError("after the commit")

    require_session().after_commit(object_to_it)


def often() -> None:
    """Run by the clock."""
    mark("often")


def report(until: str, touch: str = "", fail: bool = False) -> dict:
    """Say how far it is, in the middle of a transaction that has read or written, and go on."""
    if touch:
        frappe.get_all("Account")
    if touch == "write":
        frappe.get_doc("Account", "cash").deposit()
    frappe.publish_progress(40, stage="counting", doctype="Account", docname="cash")
    mark("report")
    while not Path(until).exists():
        time.sleep(0.01)
    if touch:
        frappe.get_doc("Account", "cash").deposit(10)
    if fail:
        raise ValueError("the report failed")
    return {"accounts": 1}


def track_further(rollback: bool) -> None:
    """Enqueue a tracked job from inside a job."""
    frappe.enqueue(add, x=7, track_job=True, job_name="further")
    if rollback:
        raise ValueError("rolled back")


class Till:
    """An object that is no document, with methods that may be enqueued."""

    def __init__(self, place, drawers):
        self.place, self._drawers = place, drawers

    def count(this, number):  # by whatever name
        return this.place, this._drawers, number

    @staticmethod
    def size(number):
        return number

    @classmethod
    def opened(cls):
        return cls


class Mute(Exception):
    """One that says nothing of itself."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Unpickled(Exception):
    def __init__(self, one, two) -> None:  # noqa: B042 - on purpose
        super().__init__(f"{one} and {two}")

    def __reduce__(self):
        raise KeyboardInterrupt("while it is pickled")


def raise_it(what: str) -> None:
    """Raise what few raise."""
    errors = {
        "cancelled": asyncio.CancelledError("by a loop"), "interrupt": KeyboardInterrupt("stop"),
        "generator": GeneratorExit("closed"), "mute": Mute(), "unpickled": Unpickled(1, 2),
        "half": ValueError("half \ud800 of a character"), "nul": ValueError("nothing \0 here"),
        "long": ValueError("<" + "x" * 3_000_000 + ">"), "exit": SystemExit(3),
    }  # fmt: skip
    raise errors[what]


def return_texts(length: int = 0) -> dict:
    """What Redis and databases do not take, or much of it."""
    frappe.publish_progress(40, stage="half \ud800, nothing \0")
    return {"half": "\ud800", "nul": "\0", "long": "x" * length}


def read_accounts() -> int:
    return len(frappe.get_all("Account"))


def read_then_add(name: str) -> int:
    """Read all accounts, then add one: on SQLite that waits for its turn in the middle."""
    accounts = len(frappe.get_all("Account"))
    time.sleep(0.02)
    frappe.new_doc("Account", name=name).insert()
    return accounts


def say(text: str, size: int = 0, times: int = 1, secret: str = "") -> None:
    """Write lines into the worker's log, by logging and by printing."""
    for number in range(times):
        logging.getLogger("acme").warning("%s %s logged%s", text, number, "x" * size)
        print(f"{text} {number} printed")
