"""The Celery app of a bench, and its task, which runs all jobs."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from celery import Celery, Task, _state
from celery.exceptions import (
    Ignore,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TaskPredicate,
    Terminated,
    WorkerLostError,
)
from celery.signals import beat_init, celeryd_init, import_modules
from kombu.entity import Queue

from frappe_jobs.brokers.base import refuse_while_blocked
from frappe_jobs.brokers.environment import overruled
from frappe_jobs.brokers.queues import queues
from frappe_jobs.celery import child, lease, log
from frappe_jobs.celery.ahead import TakeAhead
from frappe_jobs.celery.apps import BENCH_APPS, runtime_of
from frappe_jobs.celery.burst import Burst
from frappe_jobs.celery.consumer import Keeping
from frappe_jobs.celery.control import Control
from frappe_jobs.celery.events import Events
from frappe_jobs.celery.hangup import TakeHangup
from frappe_jobs.celery.kept_aside import KeptAside
from frappe_jobs.celery.mover import Mover
from frappe_jobs.celery.presence import Presence
from frappe_jobs.celery.results import FinishReading
from frappe_jobs.celery.servers import (
    broker_of,
    broker_options,
    broker_settings,
    check_results,
    keep_to_the_configuration,
    result_settings,
    schedule_settings,
)
from frappe_jobs.celery.sign_of_life import SignOfLife
from frappe_jobs.celery.silence import Silence
from frappe_jobs.celery.standstill import Standstill
from frappe_jobs.celery.stopping import Drain, TakeSignals, stopping
from frappe_jobs.celery.strays import Strays
from frappe_jobs.celery.sweeper import Sweeper
from frappe_jobs.celery.taking import TakeByHand
from frappe_jobs.celery.timers import DropTimers
from frappe_jobs.celery.transport.take import held
from frappe_jobs.config import Settings, load_settings
from frappe_jobs.errors import (
    BadMessage,
    ConfigError,
    ForgedMessage,
    FrappeJobsError,
    JobFailed,
    LaterVersion,
)
from frappe_jobs.execute import EXPIRED, Expired, GivenBack, OthersGoFirst, RunAgain
from frappe_jobs.message import HEADER, TASK, Message
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.servers.sockets import CONNECT_TIMEOUT, HEARTBEAT
from frappe_jobs.texts.error_text import described, let_go, presentable
from frappe_jobs.tracing import name_run

logger = logging.getLogger(__name__)

#: Seconds between two tries of a message of a later version, until a newer worker takes it.
NEWER_WORKER_DELAY = 30

#: A method that raised these would steer Celery, or end the worker.
STEERING = (TaskPredicate, MemoryError, WorkerLostError, Terminated)


class Execute(Task):  # type: ignore[misc]
    """Runs a job: its message's header says which method of which site."""

    name = TASK
    serializer = "json"  # whatever a team's own default is
    acks_late = True
    reject_on_worker_lost = True  # the ledger decides how often
    max_retries = None
    typing = False
    Request = "frappe_jobs.celery.request:JobRequest"
    Strategy = "frappe_jobs.celery.request:only_jobs"

    #: This process's.
    _kept_aside: KeptAside | None = None

    def run(self, arguments: Any = None) -> Any:
        runtime = runtime_of(self.app)
        header = self.request.get(HEADER) or (self.request.headers or {}).get(HEADER)
        try:
            message = Message.from_wire(header, arguments)
        except LaterVersion as error:
            self._leave_to_a_newer_worker(header, arguments, error)
        except BadMessage as error:
            self._keep_aside(error)
        name_run(message)
        try:
            delivery = self.request.get(lease.DELIVERY)
            holder = lease.holder(self.request.hostname, delivery, os.getpid())
            result = runtime.executor.execute(
                message, holder=holder, timed_out=SoftTimeLimitExceeded,
                leave=child.leave_nothing(), must_stop=stopping.must_stop,
                held=held(self.request, runtime.broker),
            )  # fmt: skip
            # Celery would log the result, and send it to everyone who listens to events.
            return None if runtime.in_force.keeps_results else result
        except ForgedMessage as error:
            self._keep_aside(error)
        except Expired:
            raise Ignore(EXPIRED) from None
        except GivenBack:
            raise Ignore from None
        except OthersGoFirst as error:
            raise Reject(str(error), requeue=True) from None
        except RunAgain as again:
            cause = again.__cause__ and presentable(again.__cause__)
            let_go(again)
            raise Retry(exc=cause, when=again.delay) from cause  # the ledger has it by now
        except STEERING as error:
            failed = JobFailed(described(error)).with_traceback(error.__traceback__)
            raise presentable(failed) from None
        except BaseException as error:  # noqa: B036 - Celery takes Exceptions alone, and whole
            if (presented := presentable(error)) is error:
                raise
            raise presented from None

    def after_return(self, status: str, retval: Any, *_: Any) -> None:
        """Called once all of Celery's signals have been sent."""
        if isinstance(retval, BaseException):
            let_go(retval)

    def _keep_aside(self, error: BadMessage) -> NoReturn:
        """Keep aside what the parent did not: a forgery, or what a team's own worker took."""
        if self._kept_aside is None:
            self._kept_aside = KeptAside(runtime_of(self.app).ledger.keep_aside)
        queue = (self.request.delivery_info or {}).get("routing_key")
        self._kept_aside.keep(queue, f"is no job: {error}", header=self.request.headers)
        raise Reject(str(error)) from None

    def _leave_to_a_newer_worker(
        self, header: Any, arguments: Any, error: LaterVersion
    ) -> NoReturn:
        try:
            is_new = runtime_of(self.app).ledger.leave(header, arguments, NEWER_WORKER_DELAY)
        except BadMessage as fault:
            self._keep_aside(fault)
        if is_new:
            logger.warning(
                "message %s is put back: %s", self.request.id, error,
                extra={"action": "message_put_back"},
            )  # fmt: skip
        raise Retry(when=NEWER_WORKER_DELAY)


def make_app(sites_path: str | Path | None = None) -> Celery:
    """The Celery app of the bench in that sites folder, made current as Celery's own are.

    Its queues come from the bench's configuration.  Raises ConfigError.
    """
    app, _ = app_for(load_settings(sites_path))
    app.set_current()
    app.set_default()
    return app


def extend_app(app: Celery, sites_path: str | Path | None = None) -> Celery:
    """Put the bench's API and its one task onto a team's own Celery app, and return that app.

    ``frappe_jobs.enqueue`` sends through this app's broker from then on.  The app's own tasks,
    queues, routes, serializers and settings stay as they are; its workers serve the bench's queues
    only where they are named (``-Q``), and ``frappe-jobs worker`` serves them in any case.
    A second call with the same sites folder changes nothing.  Raises ConfigError where the app has
    a task or queue of our names, belongs to another sites folder, or could not read our messages.
    """
    settings = load_settings(sites_path)
    if (
        app in (known := [guest for guest, _ in BENCH_APPS.values()])
        or settings.sites_path in BENCH_APPS
    ):
        if BENCH_APPS.get(settings.sites_path, (None,))[0] is app:
            return app
        raise ConfigError(
            "The app is already extended for another sites folder."
            if app in known
            else f"{settings.sites_path} already has a Celery app in this process: extend the "
            "team's app before anything is enqueued."
        )
    if TASK in app.tasks:
        raise ConfigError(f"The app has a task {TASK!r} of its own; frappe_jobs needs that name.")
    ours = {f"{settings.bench_id}:{queue}" for queue in settings.queues}
    if taken := ours & {queue.name for queue in app.conf.task_queues or ()}:
        raise ConfigError(
            f"The app has queues with names of the bench's: {', '.join(sorted(taken))}. Give the "
            "bench another 'bench_id' in common_site_config.json."
        )
    if not {"json", "application/json"} & set(app.conf.accept_content):
        raise ConfigError(
            f"The app's workers accept {', '.join(app.conf.accept_content)} and would refuse our "
            "messages, which are JSON: add 'json' to its accept_content."
        )
    _adopt(app, SettingsInForce.of_guest(settings, broker_of(app)))
    return app


def app_for(settings: Settings) -> tuple[Celery, SettingsInForce]:
    """The app of that sites folder in this process, and the settings in force for it.

    It is made if need be, without becoming current; ``frappe_jobs_celery_app`` may name the module
    in which a team extends its own app instead.
    """
    path = settings.sites_path
    if path not in BENCH_APPS and settings.celery_app:
        _import_team_app(settings.celery_app)
        if path not in BENCH_APPS:
            raise ConfigError(
                f"'frappe_jobs_celery_app' is {settings.celery_app!r}, but importing it called no "
                f"extend_app(app) for {path}."
            )
    if path not in BENCH_APPS:
        app = Celery("frappe_jobs", set_as_current=False)
        in_force = SettingsInForce.of(settings)
        app.config_from_object(celery_settings(settings), force=True)
        keep_to_the_configuration(app)
        check_results(app, in_force)
        for finding in overruled(in_force):
            logger.warning("%s", finding, extra={"action": "environment_overruled"})
        equip(app)
        _adopt(app, in_force)
        if _state.default_app is None:  # shared tasks would go to an app that Celery makes up
            app.set_default()
    return BENCH_APPS[path]


def equip(app: Celery) -> None:
    """Give the app's workers in this process what our workers do beyond Celery's."""
    child.connect()
    log.connect()
    app.Task.Request = "frappe_jobs.celery.request:SafeRequest"  # ours has its own
    app.control_cls, app.events_cls, app.log_cls = Control, Events, log.Logging
    for made in ("control", "events", "log"):  # may have been made of Celery's classes by now
        vars(app).pop(made, None)
    app.steps["worker"] |= {FinishReading, TakeHangup, TakeSignals}
    app.steps["consumer"] |= {
        Burst, Drain, DropTimers, Keeping, Silence, Standstill, Strays, TakeAhead, TakeByHand
    }  # fmt: skip


def _import_team_app(name: str) -> None:
    try:
        importlib.import_module(name.partition(":")[0])
    except FrappeJobsError:
        raise
    except Exception as error:  # the team's own code
        raise ConfigError(
            f"'frappe_jobs_celery_app' is {name!r}, and importing it failed: {error!r}."
        ) from error


def _adopt(app: Celery, settings: SettingsInForce) -> None:
    BENCH_APPS[settings.sites_path] = app, settings
    task = app.register_task(Execute())
    if not settings.keeps_results:  # Celery gets the result then, and would also log it
        task.resultrepr_maxsize = 0
    app.steps["consumer"] |= {lease.LeaseKeeper, Mover, Presence, SignOfLife, Sweeper}
    # In a worker, before it forks.
    import_modules.connect(_preload, sender=app, weak=False)
    if settings.is_guest:
        celeryd_init.connect(_make_queues_known(app, queues(settings)), weak=False)
    else:
        beat_init.connect(_refuse_redbeats_own(app), weak=False)


def _make_queues_known(app: Celery, ours: Sequence[Queue]) -> Callable[..., None]:
    """Have a worker of the team's app declare our queues as we do, if it is given their names.

    As aliases: it would consume other queues without being asked to.
    """

    def on_worker(instance: Any, **_: object) -> None:
        if instance.app is app:
            app.amqp.queues.aliases.update((queue.name, queue) for queue in ours)

    return on_worker


def _refuse_redbeats_own(app: Celery) -> Callable[..., None]:
    """End ``celery beat -S redbeat.RedBeatScheduler`` with an error, before it takes our lock.

    It would take our entries for its own, which it cannot read.
    """

    def on_beat(sender: Any, **_: object) -> None:
        kinds = [kind.__name__ for kind in type(sender.scheduler).__mro__]
        if sender.app is app and "RedBeatScheduler" in kinds and "BenchScheduler" not in kinds:
            raise SystemExit(
                "This app's schedule is run by frappe_jobs' own scheduler on RedBeat: use "
                "'frappe-jobs schedule', or 'celery beat' without -S."
            )

    return on_beat


def _preload(sender: Celery, **_: object) -> None:
    runtime_of(sender).host.preload()


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Celery's settings for a bench; ``celeryconfig.py`` hands them to Celery."""
    in_force = SettingsInForce.of(settings)
    return (
        worker_settings(in_force)
        | beat_settings(in_force)
        | broker_settings(in_force)
        | result_settings(in_force)
        | {
            "result_backend_transport_options": {"global_keyprefix": settings.prefix},
            "result_expires": settings.results_ttl,
            "task_serializer": "json",
            "result_serializer": "json",
            "accept_content": ["json"],
            "task_queues": queues(in_force),
            "task_default_queue": f"{settings.bench_id}:default",
            # A message without a priority would go first: kombu's Redis serves 0 first.
            "task_default_priority": None if in_force.is_amqp else 6,
            "task_acks_late": True,
        }
    )


def worker_settings(settings: SettingsInForce) -> dict[str, Any]:
    """What a worker of ours sets on its app, in its own process; clients need none of it."""
    return {
        "broker_transport_options": transport_options(settings),
        "broker_connection_timeout": CONNECT_TIMEOUT,
        "broker_heartbeat": HEARTBEAT,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # wait for the broker as long as it takes
        # With more a worker would hold ordinary jobs that an at-front job must overtake.
        "worker_prefetch_multiplier": 1,
        "worker_consumer": "frappe_jobs.celery.consumer:Consumer",
        # A killed process may have sent its result before; the record has its end at once.
        "worker_lost_wait": 1.0,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # On RabbitMQ we count what a worker takes, not Celery.
        "worker_enable_prefetch_count_reduction": not settings.is_amqp,
        **(own_queues() if settings.is_amqp else {}),
    }


def own_queues() -> dict[str, Any]:
    """The queues of Celery's own messages on RabbitMQ: durable, and gone soon after their reader.

    Celery 5.6's are of a kind that a strict RabbitMQ 4.3 refuses (transient, not exclusive).  5.7's
    belong to a connection: a worker that is back before RabbitMQ noticed its absence is refused.
    """
    return {
        f"{kind}_queue_{what}": what == "durable"
        for kind in ("control", "event")
        for what in ("durable", "exclusive")
    }


def beat_settings(settings: SettingsInForce) -> dict[str, Any]:
    """What a scheduler of ours sets on its app, in its own process."""
    return schedule_settings(settings) | {
        "beat_schedule": {},  # a team's own schedule is for the team's own beat
        "beat_scheduler": "frappe_jobs.celery.beat:BenchScheduler",
        "redbeat_key_prefix": f"{settings.prefix}redbeat:",
    }


def transport_options(settings: SettingsInForce) -> dict[str, Any]:
    """The options of kombu's transport, for Redis or for RabbitMQ."""
    if settings.is_amqp:
        return broker_options(settings) | {
            "confirm_publish": True, "on_blocked": refuse_while_blocked
        }  # fmt: skip
    prefix = settings.prefix
    return broker_options(settings) | {
        # Earlier queues first, as RQ's workers take them.
        "queue_order_strategy": "frappe_jobs.celery.queue_order:InTheOrderTheyCame",
        # Leases decide who runs a job; a dead worker's messages may come back as soon as those.
        "visibility_timeout": settings.lease,
        # kombu restores the unacknowledged messages of every app in that database: keep to ours.
        "unacked_key": f"{prefix}unacked",
        "unacked_index_key": f"{prefix}unacked_index",
        "unacked_mutex_key": f"{prefix}unacked_mutex",
    }
