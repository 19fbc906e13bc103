"""A sites folder without Frappe: sites, apps with hooks.py, a user and a database session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, cast

from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session as DatabaseSession

from frappe_jobs.arguments import Arguments
from frappe_jobs.background_task.for_users import BackgroundTasks
from frappe_jobs.config import Settings
from frappe_jobs.errors import ArgumentError
from frappe_jobs.host.own_methods import (
    RUN_DOC_METHOD,
    RUN_SCHEDULED_JOB,
    SCHEDULED_JOB_FAILED,
    SETTLE_BACKGROUND_TASKS,
    TASK_FAILED,
    TASK_SUCCEEDED,
)
from frappe_jobs.host.port import Host, Value, user_named
from frappe_jobs.job import Job
from frappe_jobs.standalone import database
from frappe_jobs.standalone import session as sessions
from frappe_jobs.standalone.apps import Apps
from frappe_jobs.standalone.documents import SiteDocuments
from frappe_jobs.standalone.done_markers import SiteDoneMarkers
from frappe_jobs.standalone.joined import joined
from frappe_jobs.standalone.lost_update import open_session
from frappe_jobs.standalone.methods import SiteMethods
from frappe_jobs.standalone.models import ScheduledJobType, has_table
from frappe_jobs.standalone.outbox import SiteOutbox
from frappe_jobs.standalone.records import make_tables
from frappe_jobs.standalone.schedule import SiteSchedule
from frappe_jobs.standalone.schedule_records import SiteScheduleRecords
from frappe_jobs.standalone.session import StandaloneSession
from frappe_jobs.standalone.task_records import SiteTaskRecords

logger = logging.getLogger(__name__)


class StandaloneHost(Host):
    """The host of a team without Frappe."""

    def __init__(
        self,
        settings: Settings,
        schedule_changed: Callable[[str], None] = lambda site: None,
        background_tasks: Callable[[], BackgroundTasks] | None = None,
    ) -> None:
        self._settings, self._schedule_changed = settings, schedule_changed
        self._background_tasks = background_tasks
        self._engines: dict[str, tuple[Mapping[str, Any], Engine]] = {}
        self._apps = Apps(settings)
        self.documents = SiteDocuments(self._apps)
        self.arguments = Arguments([self.documents.codec])
        self.methods = SiteMethods(self._apps, self.documents)
        schedule = SiteSchedule(settings, self.methods.resolve, self._apps.table)
        self.schedule = SiteScheduleRecords(self.session, schedule, self._apps)
        self.tasks = SiteTaskRecords(self._engine_of)
        self.done_markers = SiteDoneMarkers(self._engine_of)
        self.outbox = SiteOutbox(self._engine_of)
        self.methods.own |= {
            RUN_DOC_METHOD: self.documents.run_method,
            RUN_SCHEDULED_JOB: schedule.run,
            SCHEDULED_JOB_FAILED: schedule.note_failure,
            SETTLE_BACKGROUND_TASKS: settle_background_tasks,
            TASK_SUCCEEDED: task_succeeded,
            TASK_FAILED: task_failed,
        }

    def current(self) -> StandaloneSession | None:
        return sessions.current()

    def require_current(self) -> StandaloneSession:
        """The open session; raises HostNotReady."""
        return sessions.require_current()

    @contextmanager
    def session(
        self, site: str, user: str | None = None, session: Any = None
    ) -> Iterator[StandaloneSession]:
        conf = self._settings.sites.config(site)
        open_db: Callable[[], DatabaseSession]
        if session is None:
            open_db = partial(open_session, self._engine(site, conf))
        else:
            open_db = partial(_given, session)
            open_db()
        opened = StandaloneSession(
            site,
            user_named(user),
            conf,
            self._settings,
            open_db,
            self._schedule_changed,
            self._background_tasks,
        )
        with opened.as_current(), opened.transaction() if session is None else nullcontext():
            yield opened

    def read(self, site: str, read: Callable[[], Value]) -> Value:
        with self.session(site):
            return read()

    def reach(self, site: str) -> None:
        with self.session(site) as opened:
            has_table(opened.db, ScheduledJobType)

    def sites(self) -> Sequence[str]:
        return self._settings.sites.names()

    def preload(self) -> None:
        self._apps.preload()

    def is_conflict(self, error: BaseException) -> bool:
        return database.is_conflict(error)

    def is_out_of_reach(self, error: BaseException) -> bool:
        return super().is_out_of_reach(error) or database.is_lost(error)

    def log_error(self, title: str, error: BaseException) -> None:
        logger.error("%s failed: %s", title, error, extra={"action": "job_error", "job": title})

    @contextmanager
    def joined(self, site: str, user: str | None = None) -> Iterator[StandaloneSession]:
        with self.session(site) as opened:
            make_tables(opened.db)  # MariaDB would commit what is open with them
        conf, engine = self._settings.sites.config(site), self._engine_of(site)
        with joined(engine) as stand_in:
            self._engines[site] = conf, cast(Engine, stand_in)
            try:
                with self.session(site, user) as opened:
                    try:
                        yield opened
                    finally:
                        opened.rollback()
            finally:
                self._engines[site] = conf, engine

    def _engine_of(self, site: str) -> Engine:
        return self._engine(site, self._settings.sites.config(site))

    def _engine(self, site: str, conf: Mapping[str, Any]) -> Engine:
        """The site's engine, made anew when its configuration names another database."""
        known = self._engines.get(site)
        if known and known[0] is conf:
            return known[1]
        url = database.database_url(conf, self._settings.sites_path / site)
        engine = known[1] if known and known[1].url == url else self._make_engine(url)
        self._engines[site] = conf, engine
        return engine

    def _make_engine(self, url: URL) -> Engine:
        return database.make_engine(url, self._settings.db_connect_timeout)


def settle_background_tasks() -> None:
    """Write the ends of jobs that the open site's Background Tasks do not say yet."""
    session = sessions.require_current()
    session.background_tasks.settle(session.site)


def task_succeeded(job: Job, _redis: object, result: Any) -> None:
    """Call the on_success that the job's Background Task names."""
    sessions.require_current().background_tasks.inside.succeeded(job.task_id, result)


def task_failed(
    job: Job, _redis: object, _kind: object, error: BaseException, _trace: object
) -> None:
    """The same with its on_failure."""
    sessions.require_current().background_tasks.inside.failed(job.task_id, error)


def _given(session: Any) -> DatabaseSession:
    """The plain SQLAlchemy session in what the caller handed in."""
    found = session() if hasattr(session, "registry") else session  # a scoped_session
    found = getattr(found, "sync_session", found)  # an AsyncSession has one inside
    if not isinstance(found, DatabaseSession):
        raise ArgumentError(
            f"session must be a SQLAlchemy Session or AsyncSession; not {session!r}."
        )
    return found
