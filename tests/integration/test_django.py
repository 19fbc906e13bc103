"""Django's tasks on our workers: of Django 6, and of django-tasks on an earlier one."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until

django = pytest.importorskip("django", reason="The extra django is not installed.")

APPS = Path(__file__).parents[1] / "apps"
SETTINGS = {"DJANGO_SETTINGS_MODULE": "shopfront.settings"}


@pytest.fixture(scope="module")
def project(make_bench, tmp_path_factory):
    """A bench with a worker that knows the project, which is set up in this process as well."""
    bench = make_bench()
    shutil.copytree(APPS / "shopfront", bench.path / "shopfront")
    bench.write("common_site_config.json", bench.config | {"default_site": "site1"})
    signals = tmp_path_factory.mktemp("shopfront") / "signals"
    signals.touch()
    bench.variables = SETTINGS | {"SHOPFRONT_SIGNALS": str(signals)}
    os.environ |= SETTINGS
    django.setup()
    del os.environ["DJANGO_SETTINGS_MODULE"]
    with bench.worker("--concurrency", "2"):
        yield bench


@pytest.fixture
def tasks(project):
    project.use()
    from shopfront import tasks

    return tasks


@pytest.fixture
def exceptions(tasks):
    from frappe_jobs.django.framework import exceptions

    return exceptions


def ended(result: Any) -> Any:
    def look() -> bool:
        result.refresh()
        return bool(result.is_finished)

    wait_until(look, 20)
    return result


def signals_of(project: Any, name: str) -> list[str]:
    lines = Path(project.variables["SHOPFRONT_SIGNALS"]).read_text().splitlines()
    return [line for line in lines if line.split()[1] == name]


def test_a_task_is_a_job_and_its_result_is_djangos(project, tasks):
    sent = tasks.pack.using(queue_name="short").enqueue("vase", 2, wrap=True)
    assert (sent.status, sent.attempts, sent.started_at) == ("READY", 0, None)
    assert (sent.args, sent.kwargs) == (["vase", 2], {"wrap": True})
    with pytest.raises(ValueError, match="Task has not finished yet"):
        sent.return_value  # noqa: B018
    result = ended(tasks.pack.get_result(sent.id))
    assert result.return_value == ["vase", 2, {"wrap": True}]
    assert (result.status, result.attempts, result.errors) == ("SUCCESSFUL", 1, [])
    assert result.task == tasks.pack.using(queue_name="short")
    assert sent.enqueued_at == result.enqueued_at <= result.started_at <= result.finished_at
    assert result.last_attempted_at == result.started_at
    shown = project.run("jobs", "show", sent.id, "--site", "site1").stdout
    assert "shopfront.tasks.pack" in shown and "vase" in shown
    wait_until(lambda: len(signals_of(project, "pack")) == 2)
    assert signals_of(project, "pack") == [
        "started pack RUNNING JobsBackend", "finished pack SUCCESSFUL JobsBackend",
    ]  # fmt: skip


def test_a_coroutine_is_awaited_sent_and_read_by_coroutines(tasks):
    async def all_of_it():
        result = await tasks.pack_soon.aenqueue("lamp")
        for _ in range(2000):
            if result.is_finished:
                break
            await asyncio.to_thread(frappe.get_job(result.id, "site1").wait, 20)
            await result.arefresh()
        return result

    assert asyncio.run(all_of_it()).return_value == "lamp packed"


@pytest.mark.parametrize(
    ("name", "arguments", "error", "says"),
    [
        ("fail", ["no room"], ValueError, "ValueError: no room"),
        ("leave", [], SystemExit, "SystemExit: gone"),
        ("give_object", [], TypeError, "Unsupported type"),
    ],
)
def test_an_error_is_the_results_error(project, tasks, name, arguments, error, says):
    result = ended(getattr(tasks, name).enqueue(*arguments))
    assert (result.status, result.attempts) == ("FAILED", 1)
    assert result.errors[0].exception_class is error
    assert says in result.errors[0].traceback.splitlines()[-1]
    with pytest.raises(ValueError, match="Task failed"):
        result.return_value  # noqa: B018
    wait_until(lambda: len(signals_of(project, name)) == 2)
    assert signals_of(project, name)[1] == f"finished {name} FAILED JobsBackend"


def test_a_task_is_told_its_context_and_tried_again_as_its_backend_says(project, tasks):
    result = ended(tasks.who.enqueue())
    assert result.return_value == [result.id, 1, "Administrator"]
    result = ended(tasks.at_second.enqueue())
    assert result.return_value == [2, "grete"]
    assert (result.attempts, len(result.worker_ids)) == (2, 2)
    assert result.errors[0].exception_class is ConnectionError
    assert result.started_at < result.last_attempted_at
    assert frappe.get_job(result.id, "site1").timeout == 77
    wait_until(lambda: len(signals_of(project, "at_second")) == 3)
    assert [line.split()[0] for line in signals_of(project, "at_second")] == [
        "started", "started", "finished",
    ]  # fmt: skip


def test_run_after_and_priority_are_a_due_time_and_the_front(tasks):
    due = datetime.now(timezone.utc) + timedelta(hours=1)
    result = tasks.pack.using(run_after=due, priority=5).enqueue("vase")
    job = frappe.get_job(result.id, "site1")
    assert (job.status, job.due) == ("queued", due.timestamp())
    again = tasks.pack.get_result(result.id)
    assert again == result and again.task.run_after == due and again.task.priority == 5
    assert runtime.current().ledger.read(job.message_id).message.at_front
    job.cancel()
    result.refresh()
    assert (result.status, result.errors[0].traceback) == ("FAILED", "cancelled")
    with pytest.raises(ValueError, match="Task failed"):
        result.return_value  # noqa: B018


def test_what_django_rolls_back_is_never_sent(tasks):
    from django.db import transaction

    pack = tasks.pack.using(backend="on commit")
    try:
        with transaction.atomic():
            dropped = pack.enqueue("vase")
            raise KeyError
    except KeyError:
        pass
    with transaction.atomic():
        sent = pack.enqueue("lamp")
        assert (sent.enqueued_at, frappe.get_job(sent.id, "site1")) == (None, None)
    assert (frappe.get_job(dropped.id, "site1"), dropped.enqueued_at) == (None, None)
    assert ended(sent).return_value[0] == "lamp"


def test_an_open_site_and_its_user_are_the_tasks(tasks, exceptions):
    with frappe.site("site2", user="otto"):
        result = tasks.who.enqueue()
        assert frappe.get_job(result.id).wait(20) == [result.id, 1, "otto"]
        result.refresh()
    assert result.is_finished
    with pytest.raises(exceptions.TaskResultDoesNotExist):  # site1 sees nothing of it
        tasks.who.get_result(result.id)


def test_only_a_result_of_that_task_is_found(tasks, exceptions):
    for unknown in ("none", "7ae1b9c4-0000-4000-8000-000000000000"):
        with pytest.raises(exceptions.TaskResultDoesNotExist):
            tasks.pack.get_result(unknown)
    with frappe.site("site1"):
        other = frappe.enqueue("acme.tasks.ping")
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        tasks.pack.get_result(other.id)
    with pytest.raises(exceptions.TaskResultMismatch):
        tasks.pack.get_result(tasks.who.enqueue().id)


@pytest.mark.parametrize(
    ("path", "error", "says"),
    [
        ("os.system", "MethodNotAllowed", "no app of Django's INSTALLED_APPS"),
        ("shopfront.tasks.no_task", "MethodNotAllowed", "no task of Django's"),
        ("shopfront.tasks.shutil", "MethodNotAllowed", "no task of Django's"),
        ("shopfront.tasks.alias", "MethodNotAllowed", "no task of Django's"),
        ("shopfront.tasks.nothing", "MethodNotFound", "has no 'nothing'"),
        ("shopfront.nowhere.pack", "MethodNotFound", "importing shopfront.nowhere failed"),
        ("shopfront", "MethodNotFound", "no dotted path"),
    ],
)
def test_nothing_but_a_task_is_called_whatever_the_message_says(tasks, path, error, says):
    call = {"task": path, "args": [], "kwargs": {}, "backend": "default", "priority": 0}
    with frappe.site("site1"):
        job = frappe.enqueue("frappe_jobs.run_django_task", **call, run_after=None)
        with pytest.raises(frappe.JobFailed, match=says):
            job.wait(20)
    assert error in job.traceback.splitlines()[-1]


def test_what_cannot_be_sent_is_an_invalid_task(tasks):
    from django.core.exceptions import ImproperlyConfigured
    from django.test import override_settings

    from frappe_jobs.django import JobsBackend
    from frappe_jobs.django.framework import FRAMEWORK, InvalidTask

    backends = sys.modules[FRAMEWORK].task_backends

    with pytest.raises(InvalidTask, match="Queue 'long' is not valid"):
        tasks.pack.using(queue_name="long")
    with pytest.raises(TypeError, match="Unsupported type"):
        tasks.pack.enqueue(object())
    backend = {"BACKEND": "frappe_jobs.django.JobsBackend", "QUEUES": ["default", "parcels"]}
    with override_settings(TASKS={"default": backend}):
        [error] = backends["default"].check()
        assert "Queue 'parcels' is not configured" in error.msg
        with pytest.raises(InvalidTask, match="Queue 'parcels' is not configured"):
            tasks.pack.using(queue_name="parcels").enqueue("vase")
    with pytest.raises(ImproperlyConfigured, match="OPTIONS has no 'sit'"):
        JobsBackend("default", {"OPTIONS": {"sit": "site1"}})
    assert list(backends["default"].check()) == []


def test_a_worker_that_knows_no_project_says_how_it_would(make_bench):
    bench = make_bench()
    with bench.worker("--queue", "default"):
        bench.use()
        with frappe.site("site1"):
            job = frappe.enqueue(
                "frappe_jobs.run_django_task", task="shopfront.tasks.pack", args=[], kwargs={}
            )
            with pytest.raises(frappe.JobFailed, match="DJANGO_SETTINGS_MODULE"):
                job.wait(20)
