"""A Celery team's file.

Celery has no types of its own: mypy knows nothing of its tasks, pyright takes them for plain
functions, as it does at ``mail.delay``.  With the types of the package celery-types both know them;
that is how the last task is typed here.
"""

from __future__ import annotations

from typing import Any, Protocol

from celery import Celery, shared_task  # wrong to mypy

import frappe_jobs as frappe
from frappe_jobs.celery.app import extend_app

app = Celery("team")
extend_app(app)


@app.task  # wrong to mypy
def mail(to: str) -> str:
    return to


class Task(Protocol):
    name: str

    def __call__(self, issue: int) -> str: ...
    def delay(self, *args: Any, **kwargs: Any) -> Any: ...
    def apply_async(self, *args: Any, **kwargs: Any) -> Any: ...


def send(newsletter: Task) -> None:
    mail.delay(to="Ada")  # wrong to pyright
    frappe.enqueue(mail, to="Ada")
    frappe.enqueue(newsletter, "short", issue=7).get(timeout=10)
    frappe.enqueue(newsletter, queue="short", at_front=True, issue=7).get(timeout=10)
    shared_task(mail)
