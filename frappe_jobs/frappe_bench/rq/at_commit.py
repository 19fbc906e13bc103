"""Frappe's own ``enqueue_after_commit``: what it has wait for the commit is composed before it.

Frappe's enqueue leaves a call behind that puts the job into its queue after the commit; so does
its enqueue_task, where it has one.  Made in the transaction, just before the commit, it leaves the
job in the site's outbox.
"""

from __future__ import annotations

from importlib import import_module
from types import CodeType
from typing import Any

import frappe

from frappe_jobs.frappe_bench.host import at_commit
from frappe_jobs.frappe_bench.host.session import runtime
from frappe_jobs.frappe_bench.rq.seam import ENQUEUE


def _enqueue_task() -> tuple[CodeType, ...]:
    try:
        return (import_module("frappe.utils.task_queue").enqueue_task.__code__,)
    except ImportError:  # before 16
        return ()


#: The calls that they leave behind.
CALLS = {
    code
    for function in (ENQUEUE, *_enqueue_task())
    for code in function.co_consts
    if isinstance(code, CodeType)
}


def see_to_calls() -> None:
    """Have the calls that wait for the commit of the open transaction made before it."""
    waiting = frappe.local.db.before_commit
    if _make_calls not in waiting._functions:
        waiting.add(_make_calls)


def is_before_commit() -> bool:
    """Whether it is such a call from where this is asked, so that a job waits for the commit."""
    return bool(getattr(frappe.local, "frappe_jobs_before_commit", False))


def _make_calls() -> None:
    here, db = runtime(), frappe.local.db
    calls = [call for call in db.after_commit._functions if _is_frappes(call)]
    is_kept = here.settings.outbox and here.host.outbox.make_ready(here.host.require_current())
    if not calls or not is_kept:
        return
    others = [call for call in db.after_commit._functions if not _is_frappes(call)]
    db.after_commit.reset()
    db.after_commit._functions.extend(others)
    frappe.local.frappe_jobs_before_commit = True
    try:
        for call in calls:
            call()
    finally:
        frappe.local.frappe_jobs_before_commit = False
    # Not behind what waits already: a job's done marker counts what was written before it.
    at_commit.show(db)


def _is_frappes(call: Any) -> bool:
    code = getattr(call, "__code__", None)
    return code in CALLS and not _runs_its_method(call)


def _runs_its_method(call: Any) -> bool:
    """Whether ``enqueue_task(now=True)`` left it: a method's work belongs after the commit."""
    names = call.__code__.co_freevars
    return "now" in names and bool(call.__closure__[names.index("now")].cell_contents)
