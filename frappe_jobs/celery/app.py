"""The Celery app of a bench, and the one task that runs all jobs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from celery import Celery, Task, _state
from celery.exceptions import Reject, SoftTimeLimitExceeded, TaskPredicate
from celery.signals import import_modules
from celery.utils.imports import symbol_by_name
from kombu.entity import Exchange, Queue

from frappe_jobs.celery import child  # noqa: F401 - connects its signals
from frappe_jobs.celery.stopping import FinishReading
from frappe_jobs.config import Settings, load_settings
from frappe_jobs.errors import BadMessage, JobFailed
from frappe_jobs.execute import RunAgain
from frappe_jobs.message import HEADER, TASK, Message

logger = logging.getLogger(__name__)

#: The composition root stands above this room, so it is named here and not imported.
RUNTIME = "frappe_jobs.runtime:of_app"

#: Until leases decide who runs a job, no job may be longer than this on Redis.
VISIBILITY_TIMEOUT = 24 * 3600

#: The app of each sites folder in this process.
_apps: dict[Path, Celery] = {}


class Execute(Task):  # type: ignore[misc]
    """The one task: its message's header says which method of which site to run."""

    name = TASK
    acks_late = True
    max_retries = None
    typing = False
    Request = "frappe_jobs.celery.request:JobRequest"

    def run(self, arguments: Any = None) -> Any:
        runtime = symbol_by_name(RUNTIME)(self.app)
        header = (self.request.headers or {}).get(HEADER)
        try:
            message = Message.from_wire(header, arguments)
        except BadMessage as error:
            logger.error(
                "message %s is kept aside: %s", self.request.id, error,
                extra={"action": "message_kept_aside"},
            )  # fmt: skip
            runtime.ledger.keep_aside({"error": str(error), "header": repr(header)})
            raise Reject(str(error)) from None
        try:
            return runtime.executor.execute(
                message, worker=self.request.hostname, timed_out=SoftTimeLimitExceeded
            )
        except RunAgain as again:
            raise self.retry(countdown=again.delay, exc=again.__cause__) from again.__cause__
        except (TaskPredicate, MemoryError, SystemExit) as error:
            # Raised by a method, these would steer Celery, or end the worker.
            raise JobFailed(f"{type(error).__name__}: {error}") from error


def make_app(sites_path: str | Path | None = None) -> Celery:
    """The Celery app of the bench in that sites folder, made current as Celery's own are.

    Its queues come from the bench's configuration.  Raises ConfigError.
    """
    app = app_for(load_settings(sites_path))
    app.set_current()
    app.set_default()
    return app


def app_for(settings: Settings) -> Celery:
    """The app of that sites folder in this process; made, if need be, without becoming current."""
    if settings.sites_path not in _apps:
        app = _apps[settings.sites_path] = _build(settings)
        if _state.default_app is None:  # a team's shared tasks would go to an app of nobody's
            app.set_default()
    return _apps[settings.sites_path]


def sites_path_of(app: Celery) -> Path:
    """The sites folder that the app was made for."""
    return next(path for path, made in _apps.items() if made is app)


def _build(settings: Settings) -> Celery:
    app = Celery("frappe_jobs", set_as_current=False)
    app.config_from_object(celery_settings(settings))
    app.register_task(Execute())
    app.steps["worker"].add(FinishReading)
    # Celery's own moment for it: in a worker, before it forks.
    import_modules.connect(_preload, sender=app, weak=False)
    return app


def _preload(sender: Celery, **_: object) -> None:
    symbol_by_name(RUNTIME)(sender).host.preload()


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Celery's settings of a bench; what ``celeryconfig.py`` hands to Celery."""
    prefix = settings.prefix
    return {
        "broker_url": settings.broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            # Earlier queues first, as RQ's workers take them.
            "queue_order_strategy": "frappe_jobs.celery.queue_order:InTheOrderTheyCame",
            "visibility_timeout": VISIBILITY_TIMEOUT,
            # The sweep of unacknowledged messages takes every app's in that database: keep to ours.
            "unacked_key": f"{prefix}unacked",
            "unacked_index_key": f"{prefix}unacked_index",
            "unacked_mutex_key": f"{prefix}unacked_mutex",
        },
        "result_backend": settings.result_backend,
        "result_backend_transport_options": {"global_keyprefix": prefix},
        "result_expires": settings.results_ttl,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_queues": [
            Queue(name, Exchange(name, type="direct"), routing_key=name)
            for name in (f"{settings.bench_id}:{queue}" for queue in settings.queues)
        ],
        "task_default_queue": f"{settings.bench_id}:default",
        # Without one a message would be taken first: kombu's Redis serves priority 0 before all.
        "task_default_priority": 6,
        "task_acks_late": True,
        # With more a worker would hold ordinary jobs that an at-front one must overtake.
        "worker_prefetch_multiplier": 1,
        "worker_consumer": "frappe_jobs.celery.consumer:Consumer",
        # A killed process may still have sent its result; its record says so at once.
        "worker_lost_wait": 1.0,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": True,
        "worker_redirect_stdouts_level": "INFO",
    }
