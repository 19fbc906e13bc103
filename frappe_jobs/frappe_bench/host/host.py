"""A real Frappe as the host: its own init, connect, set_user, get_hooks, log_error, destroy."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from importlib import import_module
from typing import Any, TypeVar

import frappe
from frappe.model.base_document import get_controller
from frappe.model.document import Document
from frappe.utils import CallbackManager

from frappe_jobs import methods
from frappe_jobs.arguments import Arguments
from frappe_jobs.config import Settings
from frappe_jobs.errors import (
    ArgumentError,
    DatabaseUnavailable,
    DoesNotExistError,
    FrappeJobsError,
    HostNotReady,
    MethodNotFound,
    RecordNotWritten,
    RetryBackgroundJobError,
)
from frappe_jobs.frappe_bench.host import database, tasks
from frappe_jobs.frappe_bench.host.arguments import bench_arguments
from frappe_jobs.frappe_bench.host.bound import as_called
from frappe_jobs.frappe_bench.host.job_id import spelled
from frappe_jobs.frappe_bench.host.session import BenchSession, is_open
from frappe_jobs.frappe_bench.rq.job import BenchJob, as_rqs_current
from frappe_jobs.frappe_bench.rq.queue import keep_few_failed_jobs
from frappe_jobs.frappe_bench.rq.rq_options import KEEP_FEW_FAILED_JOBS
from frappe_jobs.frappe_bench.schedule import BenchSchedule, note_failure, scheduled_call
from frappe_jobs.host.port import (
    RUN_DOC_METHOD,
    SCHEDULED_JOB_FAILED,
    SETTLE_BACKGROUND_TASKS,
    Host,
    JobType,
    ScheduledCall,
    Session,
    TaskChange,
    user_named,
)
from frappe_jobs.ledger.record import STARTED, Record
from frappe_jobs.message import Message
from frappe_jobs.scheduler.events import ScheduledJob

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

#: The last of a job's after_job hooks.
AFTER_JOB_CALLBACKS = "frappe_jobs.after_job_callbacks"

#: At a clean exit: one, and more where a call that waited for a commit has written.  Not for ever,
#: as Frappe can be told to commit nothing.
LAST_COMMITS = 5

#: Seconds until the scheduler asks a site again that could not be read.
AWAY = 60.0

#: What Frappe's worker-pool imports before it forks, and what a job's first call imports else.
PRELOADED = (
    "frappe.database.query",
    "frappe.query_builder",
    "frappe.utils.data",
    "frappe.utils.safe_exec",
    "frappe.utils.typing_validations",
    "frappe.website.path_resolver",
    "frappe.handler",
    "frappe.utils.user",
    "frappe.model.db_query",
    "frappe.database.mariadb.database",
    "frappe.monitor",
    "frappe.recorder",
    "frappe.utils.file_lock",
    "frappe.permissions",
    "frappe.core.doctype.scheduled_job_type.scheduled_job_type",
)


class BenchHost(Host):
    """The host of a Frappe bench."""

    def __init__(
        self,
        settings: Settings,
        schedule_changed: Callable[[str], None] = lambda site: None,
        background_tasks: Callable[[], Any] = lambda: None,
    ) -> None:
        self._settings = settings
        self.schedule_changed = schedule_changed
        self._background_tasks = background_tasks
        self._schedule = BenchSchedule()
        #: Of sites that could not be read: until when (monotonic clock) nobody tries, and why.
        self._away: dict[str, tuple[float, str]] = {}
        self._own: dict[str, Callable[..., Any]] = {
            RUN_DOC_METHOD: run_doc_method,
            SCHEDULED_JOB_FAILED: note_failure,
            AFTER_JOB_CALLBACKS: run_after_job_callbacks,
            KEEP_FEW_FAILED_JOBS: keep_few_failed_jobs,
            SETTLE_BACKGROUND_TASKS: self._settle_background_tasks,
        }

    @cached_property
    def arguments(self) -> Arguments:  # type: ignore[override]
        return bench_arguments()

    # --- what is open

    def current(self) -> Session | None:
        return BenchSession() if is_open() else None

    def clear(self) -> None:
        frappe.destroy()

    @contextmanager
    def session(
        self, site: str, user: str | None = None, session: Any = None
    ) -> Iterator[BenchSession]:
        if session is not None:
            raise ArgumentError("On a bench Frappe itself opens the database: name no session.")
        if is_open():
            raise HostNotReady(
                f"{frappe.local.site} is open here, and Frappe has one site open at a time."
            )
        self._settings.site_config(site)  # raises SiteNotFound
        name = user_named(user)
        opened = BenchSession()
        drop_deaf_cache()
        try:
            frappe.init(site=site, sites_path=self._sites_path)
            frappe.connect(set_admin_as_user=False)
            database.limit_connecting(frappe.local.db, self._settings.db_connect_timeout)
            frappe.set_user(name)
            if os.environ.get("CI"):  # as Frappe's own worker
                frappe.flags.in_test = True
                if hasattr(frappe, "in_test"):
                    frappe.in_test = True
            yield opened
            for _ in range(LAST_COMMITS):
                if opened.is_dirty:
                    opened.commit()
        except BaseException:
            self._roll_back(opened)
            raise
        finally:
            frappe.destroy()

    @property
    def _sites_path(self) -> str:
        """``.`` where Frappe's own commands run, as they say it."""
        folder = self._settings.sites_path
        return "." if os.getcwd() == str(folder) else str(folder)

    def _roll_back(self, opened: BenchSession) -> None:
        try:
            if getattr(frappe.local, "db", None):
                opened.rollback()
        except Exception:  # the connection is lost, and with it the transaction
            logger.warning("the transaction could not be rolled back", exc_info=True)

    def on(self, site: str, read: Callable[[], Value]) -> Value:
        """What that gives with the site open, whatever is open here."""
        if not is_open():
            with self.session(site):
                return read()
        if frappe.local.site == site:
            return read()
        return _in_thread(lambda: self.on(site, read))

    def reach(self, site: str) -> None:
        self.read(site, lambda: frappe.db.sql("select 1"))

    def sites(self) -> Sequence[str]:
        return self._settings.sites()

    @property
    def worker_pool_schedules(self) -> bool:
        """Where the worker of Frappe's own pool is one that starts a scheduler."""
        return hasattr(import_module("frappe.utils.background_jobs"), "FrappeWorker")

    def preload(self) -> None:
        os.chdir(self._settings.sites_path)  # where all of Frappe's processes run
        for name in PRELOADED:
            try:
                import_module(name)
            except Exception:
                logger.debug("%s is not preloaded", name, exc_info=True)
        import_module("frappe.utils.background_jobs")._start_sentry()

    # --- methods and hooks

    def hooks(self, name: str, site: str) -> list[str]:
        found = self.on(site, lambda: list(frappe.get_hooks(name)))
        return [*found, AFTER_JOB_CALLBACKS] if name == "after_job" else found

    def method(self, path: str, site: str) -> Callable[..., Any]:
        if path in self._own:
            return self._own[path]
        return as_called(methods.resolve(path, self._apps(site)))

    def checked(self, path: str, arguments: Mapping[str, Any], site: str) -> Callable[..., Any]:
        method = super().checked(path, arguments, site)
        if path == RUN_DOC_METHOD:
            self._check_doc_method(**arguments)
        return method

    def _check_doc_method(self, doctype: str, name: Any, doc_method: Any, **rest: Any) -> None:
        """Raise as the call would; a private method may be called, as in Frappe."""
        try:
            kind = get_controller(doctype)
        except ImportError:
            self._known(doctype)  # raises where there is none
            raise
        is_name = isinstance(doc_method, str) and not doc_method.startswith("__")
        found = getattr(kind, doc_method, None) if is_name else None
        if not inspect.isroutine(found):
            raise MethodNotFound(f"{doctype} has no method {doc_method!r}.")
        if inspect.isfunction(inspect.getattr_static(kind, doc_method)):
            found = functools.partial(found, None)
        methods.check_arguments(found, f"{doctype}.{doc_method}", rest)

    def _apps(self, site: str) -> Sequence[str]:
        """The site's apps; while one of them comes or goes, all of the bench's, as in Frappe."""
        if not is_open() or frappe.local.site != site:
            return self._settings.installed_apps(site)
        flags = frappe.local.flags
        if flags.in_install or flags.in_uninstall or flags.in_install_db:
            return list(frappe.get_all_apps(with_internal_apps=False))
        return list(frappe.get_installed_apps())

    def job_id(self, job_id: str) -> str:
        return spelled(job_id)

    def document_method(self, method: Callable[..., Any]) -> tuple[str, Any, str] | None:
        document = getattr(method, "__self__", None)
        if not isinstance(document, Document):
            return None
        return document.doctype, document.name, method.__name__

    # --- errors

    def is_conflict(self, error: BaseException) -> bool:
        return isinstance(error, frappe.RetryBackgroundJobError) or database.is_conflict(error)

    def is_out_of_reach(self, error: BaseException) -> bool:
        return super().is_out_of_reach(error) or database.is_out_of_reach(error)

    def log_error(self, title: str, error: BaseException) -> None:
        """Into the site's Error Log, under the method's path as Frappe does."""
        method = (getattr(frappe.local, "job", None) or {}).get("method") or title
        try:
            # Raised again, as Frappe reads what is being handled.
            raise error
        except type(error):
            _log_error(method)
        logger.error("%s failed: %s", title, error, extra={"action": "job_error", "job": title})

    @contextmanager
    def running(self, message: Message, kwargs: Mapping[str, Any]) -> Iterator[None]:
        frappe.local.job = frappe._dict(
            site=message.site,
            method=message.method,
            job_name=message.name,
            kwargs=kwargs,
            user=message.user,
            after_job=CallbackManager(),
        )
        with as_rqs_current(BenchJob(Record(message, STARTED, started_at=time.time()))):
            yield

    def job_for_callback(self, job: Any) -> Any:
        return BenchJob(job._record)

    # --- documents, for the API

    def get_doc(self, doctype: str, name: Any, *, for_update: bool = False) -> Any:
        options = {"for_update": True} if for_update else {}
        return frappe.get_doc(self._known(doctype), name, **options)

    def new_doc(self, doctype: str, values: Mapping[str, Any]) -> Any:
        return frappe.new_doc(self._known(doctype), **values)

    def _known(self, doctype: str) -> str:
        self.require_current()
        if not frappe.db.exists("DocType", doctype):
            raise DoesNotExistError(f"{frappe.local.site} has no doctype {doctype!r}.")
        return doctype

    def get_all(
        self,
        doctype: str,
        filters: Mapping[str, Any],
        fields: Sequence[str],
        order_by: str | None,
        limit: int | None,
    ) -> list[dict[str, Any]]:
        names = [fields] if isinstance(fields, str) else list(fields)
        found: list[dict[str, Any]] = frappe.get_all(
            self._known(doctype), filters=dict(filters), fields=names, order_by=order_by,
            limit=limit,
        )  # fmt: skip
        return found

    # --- the schedule

    def inactive(self, site: str) -> str | None:
        until, reason = self._away.get(site, (0.0, ""))
        if time.monotonic() < until:  # the other sites' due times would wait for each try
            return reason
        try:
            return self.read(site, self._schedule.inactive)
        except DatabaseUnavailable as error:
            self._away[site] = time.monotonic() + AWAY, str(error)
            return str(error)

    def time_zone(self, site: str) -> str | None:
        return self.read(site, self._schedule.time_zone)

    def scheduled_call(self, name: str, method: str, due: float) -> ScheduledCall:
        return scheduled_call(name, method)

    def scheduler_events(self, site: str) -> Mapping[str, Any]:
        return self.read(site, self._schedule.events)

    def job_types(self, site: str) -> list[JobType]:
        return self.read(site, self._schedule.job_types)

    def read(self, site: str, read: Callable[[], Value]) -> Value:
        """What the scheduler asks of a site; raises DatabaseUnavailable whatever is wrong there."""
        try:
            return self.on(site, read)
        except FrappeJobsError:
            raise
        except Exception as error:  # one site's trouble is its own
            raise DatabaseUnavailable(f"{site} cannot be read: {error!r}") from error

    def change_job_types(
        self,
        site: str,
        add: Sequence[ScheduledJob],
        change: Mapping[str, ScheduledJob],
        remove: Sequence[str],
    ) -> list[JobType]:
        return self.read(site, lambda: self._schedule.change(add, change, remove))

    def set_last_executions(self, site: str, times: Mapping[str, datetime]) -> None:
        self.read(site, lambda: self._schedule.set_last_executions(times))

    def note_next_executions(self, site: str, times: Mapping[str, datetime | None]) -> None:
        """Nothing: Frappe works it out whenever somebody looks."""

    def clear_scheduled_job_logs(self, site: str, before: datetime) -> None:
        """Nothing: Frappe's own Log Settings say how long they are kept."""

    # --- the records of tracked jobs

    def add_background_tasks(self, session: Session, records: Sequence[Mapping[str, Any]]) -> None:
        tasks.add(records)

    def change_background_task(
        self, session: Session, change: TaskChange, *, patience: float | None = None
    ) -> bool:
        return tasks.change(change, patience)

    def change_background_tasks(
        self,
        site: str,
        changes: Sequence[TaskChange],
        done: Callable[[], object] = lambda: None,
        *,
        patience: float,
    ) -> None:
        self.read(site, lambda: tasks.change_beside(changes, patience))
        done()

    def note_progress(self, session: Session, change: TaskChange) -> bool:
        return tasks.note_progress(change)

    def recent_background_tasks(self, user: str | None, limit: int) -> list[dict[str, Any]]:
        return tasks.recent(user, limit)

    def open_background_tasks(self, site: str, before: datetime) -> dict[str, str]:
        return self.read(site, lambda: tasks.open_ones(before))

    def clear_background_tasks(self, site: str, before: datetime) -> int:
        return self.read(site, lambda: tasks.clear(before))

    def _settle_background_tasks(self) -> None:
        """What ``frappe_jobs.settle_background_tasks`` does; run again where it cannot yet."""
        try:
            self._background_tasks().settle(frappe.local.site)
        except RecordNotWritten as error:
            raise RetryBackgroundJobError(str(error)) from error


def drop_deaf_cache() -> None:
    """Have ``frappe.init`` make its client cache anew if it was made before this process's fork.

    A thread takes out of it what others have changed, and no thread comes through a fork: hooks and
    settings would be old for minutes.  Frappe 15 has no such cache.
    """
    thread = getattr(getattr(frappe, "client_cache", None), "invalidator_thread", None)
    if thread and not thread.is_alive():
        frappe.cache = frappe.client_cache = None


def run_doc_method(doctype: str, name: Any, doc_method: str, **kwargs: Any) -> Any:
    """Load the document and call its method, as Frappe's own function does."""
    return getattr(frappe.get_doc(doctype, name), doc_method)(**kwargs)


def run_after_job_callbacks() -> None:
    """What the job has put into ``frappe.local.job.after_job``, as the last of its hooks."""
    frappe.local.job.after_job.run()


def _log_error(method: str) -> None:
    try:
        frappe.log_error(title=method)
        frappe.db.commit()
    except Exception:
        logger.exception("the error of %s could not be logged", method)


def _in_thread(call: Callable[[], Value]) -> Value:
    """Its value, from a thread of its own: ``frappe.local`` is empty there."""
    with ThreadPoolExecutor(1, thread_name_prefix="another-site") as pool:
        return pool.submit(call).result()
