"""A sites folder without Frappe: sites, apps with hooks.py, a user and a database session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import cached_property, partial
from typing import Any

from sqlalchemy import URL, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, NoResultFound
from sqlalchemy.orm import Session as DatabaseSession

from frappe_jobs import methods
from frappe_jobs.arguments import Arguments
from frappe_jobs.background_task.for_users import BackgroundTasks
from frappe_jobs.config import Settings
from frappe_jobs.errors import (
    ArgumentError,
    RecordNotWritten,
    RetryBackgroundJobError,
    TransactionConflict,
)
from frappe_jobs.host.port import (
    ADMINISTRATOR,
    RUN_DOC_METHOD,
    RUN_SCHEDULED_JOB,
    SCHEDULED_JOB_FAILED,
    SETTLE_BACKGROUND_TASKS,
    Host,
    JobType,
    Session,
    TaskChange,
    Value,
    user_named,
)
from frappe_jobs.scheduler.events import ScheduledJob
from frappe_jobs.standalone import database
from frappe_jobs.standalone import session as sessions
from frappe_jobs.standalone.apps import Apps
from frappe_jobs.standalone.background_task import BackgroundTask
from frappe_jobs.standalone.documents import Documents
from frappe_jobs.standalone.lost_update import open_session
from frappe_jobs.standalone.models import ScheduledJobType, has_table
from frappe_jobs.standalone.schedule import SiteSchedule
from frappe_jobs.standalone.session import StandaloneSession
from frappe_jobs.standalone.task_records import TaskRecords

logger = logging.getLogger(__name__)

__all__ = ["ADMINISTRATOR", "RUN_DOC_METHOD", "StandaloneHost", "StandaloneSession"]


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
        self._task_records = TaskRecords(self._engine_of)
        self._apps = Apps(settings)
        self._documents = Documents(self._apps)
        self._schedule = SiteSchedule(settings, self.method, self._apps.table)
        self._own: dict[str, Callable[..., Any]] = {
            RUN_DOC_METHOD: self._documents.run_method,
            RUN_SCHEDULED_JOB: self._schedule.run,
            SCHEDULED_JOB_FAILED: self._schedule.note_failure,
            SETTLE_BACKGROUND_TASKS: self._settle_background_tasks,
        }
        self._engines: dict[str, tuple[Mapping[str, Any], Engine]] = {}

    @cached_property
    def arguments(self) -> Arguments:  # type: ignore[override]
        return Arguments([self._documents.codec])

    def current(self) -> StandaloneSession | None:
        return sessions.current()

    def require_current(self) -> StandaloneSession:
        """The open session; raises HostNotReady."""
        return sessions.require_current()

    @contextmanager
    def session(
        self, site: str, user: str | None = None, session: Any = None
    ) -> Iterator[StandaloneSession]:
        conf = self._settings.site_config(site)
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
        return self._settings.sites()

    def preload(self) -> None:
        self._apps.preload()

    def hooks(self, name: str, site: str) -> list[str]:
        return self._apps.paths(name, site)

    def method(self, path: str, site: str) -> Callable[..., Any]:
        if path in self._own:
            return self._own[path]
        return methods.resolve(path, self._apps.installed(site))

    def resolver(self, site: str) -> Callable[[str], Callable[..., Any]]:
        apps = self._apps.installed(site)
        return lambda path: self._own.get(path) or methods.resolve(path, apps)

    def checked(self, path: str, arguments: Mapping[str, Any], site: str) -> Callable[..., Any]:
        method = super().checked(path, arguments, site)
        if path == RUN_DOC_METHOD:
            self._documents.check_method(arguments, site)
        return method

    def document_method(self, method: Callable[..., Any]) -> tuple[str, Any, str] | None:
        return self._documents.bound_to(method)

    def is_conflict(self, error: BaseException) -> bool:
        return database.is_conflict(error)

    def is_out_of_reach(self, error: BaseException) -> bool:
        return super().is_out_of_reach(error) or database.is_lost(error)

    def log_error(self, title: str, error: BaseException) -> None:
        logger.error("%s failed: %s", title, error, extra={"action": "job_error", "job": title})

    # --- the schedule

    def scheduler_events(self, site: str) -> Mapping[str, Any]:
        return self._apps.values("scheduler_events", site)

    def job_types(self, site: str) -> list[JobType]:
        with self.session(site):
            return self._schedule.job_types()

    def change_job_types(
        self,
        site: str,
        add: Sequence[ScheduledJob],
        change: Mapping[str, ScheduledJob],
        remove: Sequence[str],
    ) -> list[JobType]:
        try:
            with self.session(site) as opened:
                opened.schedule_changed = lambda site: None  # who calls knows
                return self._schedule.change(add, change, remove)
        except (DBAPIError, NoResultFound, TransactionConflict) as error:
            was_quicker = isinstance(error, (IntegrityError, NoResultFound))
            if not was_quicker and not self.is_conflict(error):
                raise
            raise RecordNotWritten(
                f"The Scheduled Job Types of {site!r} were changed by another process at this "
                "moment."
            ) from error

    def set_last_executions(self, site: str, times: Mapping[str, datetime]) -> None:
        with self.session(site):
            self._schedule.set_last_executions(times)

    def note_next_executions(self, site: str, times: Mapping[str, datetime | None]) -> None:
        with self.session(site):
            self._schedule.note_next_executions(times)

    def clear_scheduled_job_logs(self, site: str, before: datetime) -> None:
        with self.session(site):
            self._schedule.clear_logs(before)

    # --- the records of tracked jobs

    def add_background_tasks(self, session: Session, records: Sequence[Mapping[str, Any]]) -> None:
        self._task_records.add(session.site, session.db, records)

    def change_background_task(
        self, session: Session, change: TaskChange, *, patience: float | None = None
    ) -> bool:
        return self._task_records.change(session.db, change, patience)

    def change_background_tasks(
        self,
        site: str,
        changes: Sequence[TaskChange],
        done: Callable[[], object] = lambda: None,
        *,
        patience: float,
    ) -> None:
        self._task_records.change_beside(site, changes, done, patience)

    def note_progress(self, session: Session, change: TaskChange) -> bool:
        return self._task_records.note_progress(session.site, session.db, change)

    def recent_background_tasks(self, user: str | None, limit: int) -> list[dict[str, Any]]:
        return self._task_records.recent(sessions.require_current().db, user, limit)

    def open_background_tasks(self, site: str, before: datetime) -> dict[str, str]:
        return self._task_records.open(site, before)

    def clear_background_tasks(self, site: str, before: datetime) -> int:
        return self._task_records.clear(site, before)

    def _settle_background_tasks(self) -> None:
        """What ``frappe_jobs.settle_background_tasks`` does; run again where it cannot yet."""
        session = sessions.require_current()
        try:
            session.background_tasks.settle(session.site)
        except RecordNotWritten as error:
            raise RetryBackgroundJobError(str(error)) from error

    # --- documents, for the API

    def get_doc(self, doctype: str, name: Any, *, for_update: bool = False) -> Any:
        """The document of that name; raises DoesNotExistError."""
        document = self._documents.get(doctype, name, for_update)
        if isinstance(document, BackgroundTask):
            document.look()
        return document

    def new_doc(self, doctype: str, values: Mapping[str, Any]) -> Any:
        """A document that is not stored yet."""
        return self._documents.new(doctype, values)

    def get_all(
        self,
        doctype: str,
        filters: Mapping[str, Any],
        fields: Sequence[str],
        order_by: str | None,
        limit: int | None,
    ) -> list[dict[str, Any]]:
        """The values of those fields of each document that equals the filters."""
        return self._documents.all(doctype, filters, fields, order_by, limit)

    def _engine_of(self, site: str) -> Engine:
        return self._engine(site, self._settings.site_config(site))

    def _engine(self, site: str, conf: Mapping[str, Any]) -> Engine:
        """The site's, made anew when what its configuration says has changed."""
        known = self._engines.get(site)
        if known and known[0] is conf:
            return known[1]
        url = database.database_url(conf, self._settings.sites_path / site)
        engine = known[1] if known and known[1].url == url else self._make_engine(url)
        self._engines[site] = conf, engine
        return engine

    def _make_engine(self, url: URL) -> Engine:
        return database.make_engine(url, self._settings.db_connect_timeout)


def _given(session: Any) -> DatabaseSession:
    """The SQLAlchemy session behind what the caller handed in."""
    found = session() if hasattr(session, "registry") else session  # a scoped_session
    found = getattr(found, "sync_session", found)  # an AsyncSession has one inside
    if not isinstance(found, DatabaseSession):
        raise ArgumentError(
            f"session must be a SQLAlchemy Session or AsyncSession; not {session!r}."
        )
    return found
