"""What the tests have run."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from os import system as not_of_the_app  # noqa: F401
from pathlib import Path

import frappe
from frappe.database import get_db
from rq import get_current_job
from rq.timeouts import JobTimeoutException

#: How a database says its name;
OWN_NAME = {
    "mariadb": "select database()",
    "postgres": "select current_database()",
    "sqlite": "select replace(replace(file, rtrim(file, replace(file, '/', '')), ''), '.db', '') "
    "from pragma_database_list",
}
#: how its connection is named, and ended.
ENDING = {
    "mariadb": ("select connection_id()", "kill {}"),
    "postgres": ("select pg_backend_pid()", "select pg_terminate_backend({})"),
}


def note(path, **facts):
    with open(path, "a") as file:
        file.write(json.dumps(facts, default=str) + "\n")


def seen():
    """What a job finds around it; the database's own word for whose it is."""
    return {
        "site": frappe.local.site,
        "database": frappe.db.sql(OWN_NAME[frappe.db.db_type])[0][0],
        "user": frappe.session.user,
        "flags": {key: value for key, value in frappe.flags.items() if key.startswith("soiled")},
        "soiled": getattr(frappe.local, "soiled", None),
        "conf": frappe.conf.get("soiled"),
        "lang": frappe.local.lang,
        "form": dict(frappe.form_dict),
        "job": (getattr(frappe.local, "job", None) or {}).get("method"),
        "rq": getattr(get_current_job(), "id", None),
        "in_test": bool(frappe.flags.in_test),
        "pid": os.getpid(),
    }


def look():
    return seen()


def look_and_soil():
    found = seen()
    frappe.flags.soiled_flag = True
    frappe.local.soiled = frappe.conf["soiled"] = frappe.local.site
    frappe.local.lang = "fr"
    frappe.form_dict.soiled = 1
    frappe.set_user("Guest")
    return found


def echo(**arguments):
    return {name: [type(value).__name__, value] for name, value in arguments.items()}


def describe(document):
    """Of a document what an equal one has too."""
    return {
        "type": type(document).__name__,
        "doctype": document.doctype,
        "name": document.name,
        "flags": dict(document.flags),
        "new": bool(document.is_new()),
        "roles": [[type(role).__name__, role.role, role.parent_doc is document]
                  for role in document.get("roles") or []],
        "private": getattr(document, "_private", "gone"),
        "values": document.as_dict(no_nulls=True),
    }  # fmt: skip


def attributes(document, names):
    return {name: str(getattr(document, name)) for name in names if hasattr(document, name)}


class Letters:
    """An object that is no document, with a method that is enqueued."""

    def __init__(self, to, **more):
        self.to, self._more = to, more

    def send(self, subject):
        return [subject, self.to, self._more["at"].isoformat(), type(self).__name__]


def note_of(letters, path, n):
    note(path, n=n, to=letters.to)


class Invitations(Letters):
    pass


def write_todo_and_tell_what_it_imports():
    """Of Frappe's own, but for the document's."""
    before = {*sys.modules}
    write_todo("what is imported")
    new = {*sys.modules} - before
    own = "frappe.desk.doctype.todo"
    return sorted(name for name in new if name.startswith("frappe.") and not name.startswith(own))


def write_todo(text, fail=False, path=None, conflict=None):
    """Write; then fail, or for so many times be in a deadlock."""
    if path:
        note(path, text=text, user=frappe.session.user)
    frappe.get_doc({"doctype": "ToDo", "description": text}).insert(ignore_permissions=True)
    if fail:
        raise ValueError(f"{text} failed")
    if conflict and Path(path).read_text().count("\n") <= conflict:
        raise frappe.QueryDeadlockError(1213, "Deadlock found")


def lose_its_connection(text, path):
    """Write; at the first attempt the database's people then end its connection."""
    note(path, text=text)
    frappe.get_doc({"doctype": "ToDo", "description": text}).insert(ignore_permissions=True)
    if Path(path).read_text().count(text) == 1:
        own, kill = ENDING[frappe.db.db_type]
        number = frappe.db.sql(own)[0][0]
        db = get_db(
            host=frappe.conf.db_host, port=frappe.conf.db_port, user=frappe.conf.db_name,
            password=frappe.conf.db_password, cur_db_name=frappe.conf.db_name,
        )  # fmt: skip
        db.sql(kill.format(number))
        db.close()
        frappe.db.sql("select 1")


def write_and_die(text, path, commits=False):
    """Write; the first run is killed right behind the commit, before its end is noted."""
    note(path, text=text)
    frappe.get_doc({"doctype": "ToDo", "description": text}).insert(ignore_permissions=True)
    if commits:
        frappe.db.commit()
    if Path(path).read_text().count(text) == 1:
        frappe.db.after_commit.add(lambda: os.kill(os.getpid(), signal.SIGKILL))
    return text


def retry_me(path):
    note(path, at=time.time())
    raise frappe.RetryBackgroundJobError


def write_and_wait(text, path, most=170):
    frappe.get_doc({"doctype": "ToDo", "description": text}).insert(ignore_permissions=True)
    note(path, pid=os.getpid())
    deadline = time.time() + most
    while time.time() < deadline and "go on" not in Path(path).read_text():
        time.sleep(0.05)


def wait_and_send(text, path):
    """Write and wait; then have another job note -1 in the file beside."""
    write_and_wait(text, path, most=400)
    notes = str(Path(path).with_name("notes"))
    frappe.enqueue("probe.tasks.note", queue="default", path=notes, n=-1)


def report_and_wait(text, path, fail=False):
    """Say how far it is, write, and wait until somebody says go on."""
    frappe.publish_progress(
        40, title="Import", description="order 4", doctype="User", docname="Guest"
    )
    frappe.publish_progress(None, title="as good as Frappe's own")
    write_and_wait(text, path)
    if fail:
        raise ValueError(f"{text} failed")
    return {"imported": text}


def follow(text, fail=False):
    """As a task of its own."""
    import frappe_jobs

    task = frappe_jobs.get_current_task()
    task.update_stage("reading")
    task.publish_progress(30)
    task.store_result({"stored": text, "saw": [task.status, task.progress, task.stage]})
    task.attach_file("orders.csv", text.encode())
    if fail:
        raise KeyError(text)


def tell_of_task(task, text, result=None, exception=None):
    """What a task's callbacks get."""
    said = f"{task.task_name} {task.status} {text} {result} {exception!r}"
    frappe.get_doc({"doctype": "ToDo", "description": said}).insert()


def fail_once(file):
    first = not Path(file).exists()
    note(file, first=first)
    if first:
        raise ValueError("not yet")
    return "now"


def track(track_job):
    return {"track_job": track_job}


def take_too_long(path):
    try:
        time.sleep(60)
    except JobTimeoutException:
        note(path, caught=True)
        raise


def callbacks(path, fail=False):
    frappe.local.job.after_job.add(lambda: note(path, what="after_job", site=frappe.local.site))
    if fail:
        frappe.local.job.after_job.add(lambda: 1 / 0)


def note_before_job(method, kwargs, transaction_type):
    if path := kwargs.get("path"):
        note(path, hook="before", method=method, transaction_type=transaction_type)


def note_after_job(method, kwargs, result):
    if path := kwargs.get("path"):
        note(path, hook="after", method=method)


def on_success(job, connection, result):
    note(job.kwargs["kwargs"]["path"], success=job.id, result=result)


def on_failure(job, connection, kind, value, traceback):
    note(job.kwargs["kwargs"]["path"], failure=job.id, kind=kind.__name__)


def fail_so_often(file, times, late=False):
    """With one error, or with ``late`` with another."""
    note(file, left=get_current_job().retries_left)
    if Path(file).read_text().count("\n") <= times:
        raise (KeyError if late else json.JSONDecodeError("not yet", "", 0))
    return "now"


def ask_nowhere():
    """A statement that fails."""
    frappe.db.sql("insert into frappe_jobs_nowhere values (1)")


def tries():
    """Fails at the first attempt."""
    import frappe_jobs

    if frappe_jobs.get_current_job().attempt == 1:
        raise ValueError("not yet")
    return frappe_jobs.get_current_job().attempt


def takes_callable(call, kinds, **arguments):
    """What arrives of a function and of classes of errors."""
    return [call(**arguments), [isinstance(ValueError(), kinds), isinstance(OSError(), kinds)]]


def takes_retry(retry):
    return retry


# The next three are docs/testing.md's, too.


def nothing(**_: object) -> None:
    pass


def remind(customer: str) -> None:
    frappe.get_doc(doctype="ToDo", description=f"{customer} owes us money").insert()
    frappe.enqueue("probe.tasks.nothing", queue="short", customer=customer)


def tick() -> None:
    frappe.db.set_default("probe_ticks", int(frappe.db.get_default("probe_ticks") or 0) + 1)


def tick_and_fail():
    raise ValueError("a scheduled job failed")


@frappe.whitelist(allow_guest=True)
def enqueue_look():
    """From a web request."""
    return frappe.enqueue("probe.tasks.look", queue="short").id
