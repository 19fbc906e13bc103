"""Django's tasks on our workers: the backend that Django's setting ``TASKS`` names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils.timezone import is_naive, make_aware

from frappe_jobs import runtime
from frappe_jobs.dispatch import Options
from frappe_jobs.django import task as tasks
from frappe_jobs.django.framework import InvalidTask, backends, base, exceptions, signals
from frappe_jobs.django.results import moment, result_of
from frappe_jobs.errors import FrappeJobsError, JobError, UnknownQueue
from frappe_jobs.host.own_methods import DJANGO_TASK_ENDED, RUN_DJANGO_TASK
from frappe_jobs.host.session import Session
from frappe_jobs.message import Sending
from frappe_jobs.runtime import Runtime

#: What OPTIONS may say.
KNOWN = ("site", "sites_path", "user", "retry", "timeout")


class JobsBackend(backends.BaseTaskBackend):  # type: ignore[misc]  # Django has no types
    """Sends Django's tasks as jobs: with records, leases, retries, limits, pages, like any other.

    ``OPTIONS``: ``sites_path``, the sites folder (else as everywhere); ``site``, where the tasks'
    jobs are kept (else ``default_site``); ``user``; ``retry`` and ``timeout``, as enqueue's.
    Inside ``with frappe_jobs.site(…)`` it is that site and user.
    """

    task_class = tasks.Task
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    #: Of two levels: above 0 goes before all others that wait in its queue.
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        if unknown := self.options.keys() - {*KNOWN}:
            raise ImproperlyConfigured(
                f"TASKS[{alias!r}]: OPTIONS has no {min(unknown)!r}; it has {', '.join(KNOWN)}."
            )
        self._waits_for_commit = bool(params.get("ENQUEUE_ON_COMMIT", False))

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Send the task; raises InvalidTask, BrokerUnavailable, ….

        With ``ENQUEUE_ON_COMMIT`` it is sent when Django's transaction commits, and not at all if
        that rolls back.
        """
        self.validate_task(task)
        result = base.TaskResult(
            task=task, id="", status=base.TaskResultStatus.READY, enqueued_at=None,
            started_at=None, last_attempted_at=None, finished_at=None, args=args, kwargs=kwargs,
            backend=self.alias, errors=[], worker_ids=[],
        )  # fmt: skip
        send = self._prepare(task, result)
        waits = getattr(task, "enqueue_on_commit", None)  # early versions of django-tasks
        if self._waits_for_commit if waits is None else waits:
            transaction.on_commit(send)
        else:
            send()
        return result

    def _prepare(self, task: Any, result: Any) -> Callable[[], None]:
        """Check the task's job; gives what sends it, and says so in the result."""
        here = self._here()
        try:
            tasks.find(task.module_path)
            with self._site(here) as session:
                options = Options(
                    queue=task.queue_name, job_name=task.module_path, at_front=task.priority > 0,
                    retry=self._option(task, "retry"), timeout=self._option(task, "timeout"),
                    on_success=DJANGO_TASK_ENDED, on_failure=DJANGO_TASK_ENDED,
                )  # fmt: skip
                call = {
                    "task": task.module_path, "args": result.args, "kwargs": result.kwargs,
                    "backend": self.alias, "priority": task.priority,
                    "run_after": task.run_after.isoformat() if task.run_after else None,
                }  # fmt: skip
                message = here.dispatcher.compose(RUN_DJANGO_TASK, call, options, session)
        except (JobError, UnknownQueue) as error:
            raise InvalidTask(str(error)) from error
        object.__setattr__(result, "id", message.job_id)

        def send() -> None:
            at = _due(task.run_after) if task.run_after else None
            here.dispatcher.dispatch([Sending(message, at=at)])
            object.__setattr__(result, "enqueued_at", moment(message.enqueued_at))
            signals.task_enqueued.send(type(self), task_result=result)

        return send

    def _option(self, task: Any, name: str) -> Any:
        """What the task says, else the backend's OPTIONS."""
        said = getattr(task, name, None)
        return self.options.get(name) if said is None else said

    def get_result(self, result_id: str) -> Any:
        """What is known of the task; raises TaskResultDoesNotExist, also once it is not kept."""
        here = self._here()
        with self._site(here) as session:
            record = here.ledger.find(session.site, str(result_id))
        if record is None or record.message.method != RUN_DJANGO_TASK:
            raise exceptions.TaskResultDoesNotExist(result_id)
        try:
            return result_of(record, here.host.arguments)
        except JobError as error:
            raise exceptions.TaskResultDoesNotExist(f"{result_id}: {error}") from error

    def check(self, **kwargs: Any) -> Iterable[checks.CheckMessage]:
        """What ``manage.py check`` says: no sites folder, no such queue."""
        yield from super().check(**kwargs)
        try:
            here = self._here()
            with self._site(here):
                pass
            for queue in sorted(self.queues):
                here.settings.queue(queue)
        except FrappeJobsError as error:
            yield checks.Error(f"TASKS[{self.alias!r}]: {error}", id="frappe_jobs.E001")

    def _here(self) -> Runtime:
        """This process's runtime: that of the sites folder that OPTIONS names if it has none."""
        path = self.options.get("sites_path")
        return runtime.in_use() or (runtime.use(Path(path)) if path else runtime.current())

    @contextmanager
    def _site(self, here: Runtime) -> Iterator[Session]:
        """The site that is open here, else the one of OPTIONS, the default, or the only one."""
        if session := here.host.current():
            yield session
            return
        site, sites = self.options.get("site") or here.settings.default_site, here.host.sites()
        if not site and len(sites) != 1:
            raise ImproperlyConfigured(
                f"TASKS[{self.alias!r}]: on which site do the tasks' jobs run? Name it as 'site' "
                f"in OPTIONS, or as 'default_site'; there are: {', '.join(sites) or 'none'}."
            )
        with here.host.session(site or sites[0], self.options.get("user")) as session:
            yield session


def _due(run_after: Any) -> float:
    """In seconds since 1970; a naive time is one of Django's TIME_ZONE."""
    due: float = (make_aware(run_after) if is_naive(run_after) else run_after).timestamp()
    return due
