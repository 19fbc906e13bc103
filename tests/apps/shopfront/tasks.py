"""What a Django project's tasks do."""

import os
import shutil  # noqa: F401 - no job may run this

from django.db import connection

import frappe_jobs as frappe
from frappe_jobs.django.framework import FRAMEWORK, signals

if FRAMEWORK == "django.tasks":
    from django.tasks import task
else:
    from django_tasks import task


def told(name, **facts):
    if os.environ.get("SHOPFRONT_SIGNALS"):
        with open(os.environ["SHOPFRONT_SIGNALS"], "a") as file:
            result = facts["task_result"]
            file.write(f"{name} {result.task.name} {result.status} {facts['sender'].__name__}\n")


def hear_started(**facts):
    told("started", **facts)


def hear_finished(**facts):
    told("finished", **facts)


signals.task_started.connect(hear_started)
signals.task_finished.connect(hear_finished)


@task
def pack(parcel, *more, wrap=False):
    return [parcel, *more, {"wrap": wrap}]


@task
async def pack_soon(parcel):
    return f"{parcel} packed"


@task
def fail(text):
    raise ValueError(text)


@task
def leave():
    raise SystemExit("gone")


@task
def give_object():
    return object()


@task(takes_context=True)
def who(context):
    return [context.task_result.id, context.attempt, frappe.get_current_job().user]


@task(backend="patient", takes_context=True)
def at_second(context):
    if context.attempt < 2:
        raise ConnectionError("the bank is away")
    return [context.attempt, frappe.get_current_job().user]


@task(queue_name="short")
def count_queries():
    """How many queries this connection has made, which each job begins anew."""
    with connection.cursor() as cursor:
        cursor.execute("select 1")
    return os.getpid()


def no_task():
    """Not decorated, so no job."""


alias = pack
