"""The composition root: settings → host, broker, ledger, and what works with them.

It stands below the parts that use Celery, Frappe or SQLAlchemy: a table names each of them,
and each is loaded when it is first needed.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from importlib import import_module
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frappe_jobs.background_task.ends import UnwrittenEnds
from frappe_jobs.background_task.for_users import BackgroundTasks
from frappe_jobs.background_task.tracking import Tracking
from frappe_jobs.background_task.upkeep import TaskUpkeep
from frappe_jobs.brokers.base import Broker
from frappe_jobs.config import Settings, load_settings
from frappe_jobs.dispatch import Dispatcher
from frappe_jobs.errors import BrokerError, ConfigError, FrappeJobsError, importing
from frappe_jobs.execute.executor import Executor
from frappe_jobs.host.own_methods import DJANGO_TASK_ENDED, RELAY_OUTBOX, RUN_DJANGO_TASK
from frappe_jobs.host.port import Host
from frappe_jobs.job import Jobs
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.away import AwaySites
from frappe_jobs.ledger.listing import Listing
from frappe_jobs.ledger.record import FAILED
from frappe_jobs.message import Message, Sending, new_id
from frappe_jobs.outbox.at_commit import AtCommit
from frappe_jobs.outbox.relay import Relay
from frappe_jobs.scheduler.queueing import Scheduling
from frappe_jobs.scheduler.sync import Sync
from frappe_jobs.scheduler.timetable import Timetable
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.sites_folder import find_sites_path, is_frappe_bench

if TYPE_CHECKING:
    from celery import Celery

    from frappe_jobs.bulk.actions import Bulk
    from frappe_jobs.history.folding import Folding
    from frappe_jobs.history.reading import History
    from frappe_jobs.ledger.backfill import Backfill
    from frappe_jobs.ledger.search import Search, Searches

logger = logging.getLogger(__name__)

#: The parts that use other libraries, or that not every bench asks for, by module and name.
ADAPTERS = {
    "app": "frappe_jobs.celery.app:app_for",
    "host of a bench": "frappe_jobs.frappe_bench.host.host:BenchHost",
    "host without Frappe": "frappe_jobs.standalone.host:StandaloneHost",
    "broker on Redis": "frappe_jobs.brokers.redis:RedisBroker",
    "broker on RabbitMQ": "frappe_jobs.brokers.rabbitmq:RabbitBroker",
    "history": "frappe_jobs.history.reading:History",
    "folding": "frappe_jobs.history.folding:Folding",
    "metrics": "frappe_jobs.metrics.families:page",
    "alerts": "frappe_jobs.alerts.watching:start",
    "targets of alerts": "frappe_jobs.alerts.targets:check_setting",
    "watching": "frappe_jobs.celery.watching:watch",
    "searches": "frappe_jobs.ledger.search:Searches",
    "bulk": "frappe_jobs.bulk.actions:Bulk",
    "backfill": "frappe_jobs.ledger.backfill:Backfill",
    "Django task": "frappe_jobs.django.running:run",
    "end of a Django task": "frappe_jobs.django.running:ended",
}


def load(part: str) -> Any:
    """That part of the table; raises ModuleNotFoundError if its library is not installed."""
    module, _, name = ADAPTERS[part].partition(":")
    return getattr(import_module(module), name)


class Runtime:
    """All parts of a bench in this process, each made when it is first needed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.is_bench = is_frappe_bench(settings.sites_path)
        # Apps of a team without Frappe lie beside the sites folder, or are installed.
        if not self.is_bench and (folder := str(settings.sites_path.parent)) not in sys.path:
            sys.path.insert(0, folder)

    @cached_property
    def _app_and_settings(self) -> tuple[Celery, SettingsInForce]:
        app, settings = load("app")(self.settings)
        return app, settings

    @property
    def app(self) -> Celery:
        return self._app_and_settings[0]

    @property
    def in_force(self) -> SettingsInForce:
        """The settings with the servers in force: a team's own Celery app brings its own broker."""
        return self._app_and_settings[1]

    @cached_property
    def host(self) -> Host:
        part = "host of a bench" if self.is_bench else "host without Frappe"
        try:
            with importing(f"frappe_jobs' {part}"):
                adapter = load(part)
        except ConfigError as error:
            if self.is_bench or getattr(error.__cause__, "name", None) != "sqlalchemy":
                raise
            raise ConfigError(
                "SQLAlchemy is not installed, and a sites folder without Frappe needs it: "
                "pip install 'frappe_jobs[standalone]'. On a Frappe bench use the bench's own "
                "Python, and list frappe in apps.txt."
            ) from None
        host: Host = adapter(self.settings, self.schedule_changed, lambda: self.background_tasks)
        host.methods.own[RELAY_OUTBOX] = lambda: self.relay.look()
        if not self.is_bench:
            host.methods.own |= {
                RUN_DJANGO_TASK: lambda **call: load("Django task")(self, **call),
                DJANGO_TASK_ENDED: lambda *end: load("end of a Django task")(self, *end),
            }
        return host

    def schedule_changed(self, site: str) -> None:
        """Bring the entries in line; if that fails, the scheduler's comparison does it later."""
        try:
            self.sync.compare([site])
        except FrappeJobsError as error:
            logger.error("the schedule of %s is brought in line later: %s", site, error)

    @cached_property
    def ledger(self) -> Ledger:
        return self.make_ledger()

    def make_ledger(self) -> Ledger:
        """A ledger with connections of its own."""
        return Ledger(self.in_force, is_searchable=self.broker.is_searchable)

    @cached_property
    def listing(self) -> Listing:
        return Listing(self.ledger, self.settings)

    def search(self, sites: Sequence[str], **filters: Any) -> Search:
        """A search in the jobs of these sites; the filters are those of ``Wanted``.

        Raises ArgumentError for a filter that fits no job.
        """
        return self._searches.find(sites, **filters)

    @cached_property
    def _searches(self) -> Searches:
        searches: Searches = load("searches")(self.ledger, self.settings)
        return searches

    @cached_property
    def bulk(self) -> Bulk:
        bulk: Bulk = load("bulk")(self.jobs, self.broker)
        return bulk

    @cached_property
    def history(self) -> History:
        """What has happened to jobs, where it is recorded (``frappe_jobs_history``)."""
        history: History = load("history")(self.ledger)
        return history

    @cached_property
    def folding(self) -> Folding:
        folding: Folding = load("folding")(self.make_ledger(), self.settings.queues)
        return folding

    @cached_property
    def backfill(self) -> Backfill:
        backfill: Backfill = load("backfill")(self.make_ledger(), self.settings)
        return backfill

    @cached_property
    def timetable(self) -> Timetable:
        return Timetable(self.in_force.schedule_url, self.settings.prefix)

    @cached_property
    def sync(self) -> Sync:
        return Sync(self.settings, self.host, self.timetable)

    @cached_property
    def scheduling(self) -> Scheduling:
        return Scheduling(self.settings, self.host, self.dispatcher)

    @cached_property
    def broker(self) -> Broker:
        settings = self.in_force
        part = "broker on RabbitMQ" if settings.is_amqp else "broker on Redis"
        with importing(f"frappe_jobs' {part}"):
            adapter = load(part)
        broker: Broker = adapter(self.app, settings)
        return broker

    @cached_property
    def tracking(self) -> Tracking:
        return Tracking(self.host, self.ledger)

    @cached_property
    def at_commit(self) -> AtCommit:
        return AtCommit(self.settings, self.host, self.ledger, self.dispatcher)

    def leave(self) -> None:
        """Before this process ends: tell Redis what its transactions have settled."""
        if "at_commit" in vars(self):  # made, as something was sent by it
            self.at_commit.tell_now()

    @cached_property
    def relay(self) -> Relay:
        return Relay(
            self.settings, self.host, self.broker, self.ledger, self.dispatcher, self.tracking
        )

    @cached_property
    def background_tasks(self) -> BackgroundTasks:
        return BackgroundTasks(
            self.settings, self.host, self.ledger, self.dispatcher, self.at_commit, self.jobs,
            self.tracking,
        )  # fmt: skip

    @cached_property
    def task_upkeep(self) -> TaskUpkeep:
        ends = UnwrittenEnds(self.ledger)
        return TaskUpkeep(self.settings, self.host, ends, self.dispatcher, self.tracking)

    @cached_property
    def dispatcher(self) -> Dispatcher:
        return Dispatcher(self.settings, self.host, self.broker, self.ledger, self.jobs)

    @cached_property
    def executor(self) -> Executor:
        # Reading a server's answer may take as long again before a try counts as given up.
        away = AwaySites(self.ledger, 2.0 * self.settings.db_connect_timeout + 1)
        markers = self.host.done_markers if self.settings.done_markers else None
        return Executor(self.host, self.ledger, self.jobs, self.tracking, away, markers)

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self.ledger, self.broker, self.host.arguments, self.tracking)

    def killed(self, message: Message, reason: str, holder: str | None = None) -> None:
        """End a job whose process was killed, and have its on_failure called, once.

        Does nothing if the job now runs with another holder.
        """
        ended = self.end_from_outside(message, FAILED, reason, holder)
        if ended and message.on_failure:
            report = replace(
                message.again(at=time.time()), job_id=new_id(), failure_of=message.id,
                task_id=None, trace=message.trace,
            )  # fmt: skip
            self._send_soon(report)

    def _send_soon(self, message: Message) -> None:
        """Record it; a thread sends it, as a worker's main loop never waits for a broker.

        If that fails, the workers' sweep sends it.
        """

        def send() -> None:
            try:
                self.broker.send_again([message])
                self.ledger.sent([message])
            except BrokerError as error:
                logger.warning("%s is sent later: %s", message.name, error)

        if all(self.ledger.record([Sending(message)])):
            threading.Thread(target=send, daemon=True, name="report").start()

    def cancel_from_outside(self, message_ids: Sequence[str], reason: str) -> None:
        """Cancel the jobs of these that wait, from a worker's parent; their messages are dropped.

        Raises BrokerUnavailable.
        """
        waiting = [record.message for record in self.ledger.read_all(message_ids)]
        ended = self.ledger.cancel(waiting, reason, waiting_only=True)
        for message in compress(waiting, ended):
            self._settle_soon(message)

    def end_from_outside(
        self, message: Message, status: str, reason: str, holder: str | None = None
    ) -> bool:
        """End a job from a worker's parent; a job of its own writes its Background Task later."""
        ended = self.ledger.end(message, status, {"reason": reason}, holder=holder)
        if ended:
            self._settle_soon(message)
        return ended

    def _settle_soon(self, message: Message) -> None:
        """Have a tracked job's end written; a thread does it, as it sends a message."""
        if message.task_id:
            settle = partial(self.task_upkeep.settle_soon, message.site, message.queue)
            threading.Thread(target=settle, daemon=True, name="settle").start()


_runtimes: dict[Path, Runtime] = {}
_current: Runtime | None = None
_lock = threading.RLock()


def current() -> Runtime:
    """The runtime of this process's sites folder; found, and its settings read, once.

    Raises ConfigError.
    """
    return _current or use(find_sites_path())


def use(sites_path: str | Path) -> Runtime:
    """Make that sites folder this process's."""
    global _current
    _current = of_sites_path(Path(sites_path).resolve())
    return _current


def in_use() -> Runtime | None:
    """This process's runtime, if it has one."""
    return _current


def use_again(before: Runtime | None) -> None:
    """Make what ``in_use`` gave this process's again."""
    global _current
    _current = before


@contextmanager
def replaced(settings: Settings) -> Iterator[Runtime]:
    """Inside, all of this process find a runtime with these settings for their sites folder."""
    global _current
    path, was_current = settings.sites_path, _current
    was_there = _runtimes.get(path)
    _current = _runtimes[path] = Runtime(settings)
    try:
        yield _current
    finally:
        _current = was_current
        del _runtimes[path]
        if was_there:
            _runtimes[path] = was_there


def of_sites_path(sites_path: Path) -> Runtime:
    """The only runtime of that sites folder in this process; raises ConfigError."""
    if found := _runtimes.get(sites_path):
        return found
    with _lock:
        if sites_path not in _runtimes:
            _runtimes[sites_path] = Runtime(load_settings(sites_path))
        return _runtimes[sites_path]
