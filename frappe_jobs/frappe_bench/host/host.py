"""A real Frappe as the host: its own init, connect, set_user, get_hooks, log_error, destroy."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

import frappe
from frappe.utils import CallbackManager

from frappe_jobs.background_task.for_users import BackgroundTasks
from frappe_jobs.config import Settings
from frappe_jobs.errors import (
    ArgumentError,
    DatabaseUnavailable,
    FrappeJobsError,
    HostError,
    HostNotReady,
)
from frappe_jobs.frappe_bench.host import database, joined, tables
from frappe_jobs.frappe_bench.host.arguments import bench_arguments
from frappe_jobs.frappe_bench.host.documents import BenchDocuments
from frappe_jobs.frappe_bench.host.done_markers import BenchDoneMarkers
from frappe_jobs.frappe_bench.host.job_id import spelled
from frappe_jobs.frappe_bench.host.methods import AFTER_JOB_CALLBACKS, BenchMethods
from frappe_jobs.frappe_bench.host.outbox import BenchOutbox
from frappe_jobs.frappe_bench.host.schedule_records import BenchScheduleRecords
from frappe_jobs.frappe_bench.host.session import BenchSession, is_open
from frappe_jobs.frappe_bench.host.task_records import BenchTaskRecords
from frappe_jobs.frappe_bench.rq.job import BenchJob, as_rqs_current
from frappe_jobs.frappe_bench.rq.queue import keep_few_failed_jobs
from frappe_jobs.frappe_bench.rq.rq_options import KEEP_FEW_FAILED_JOBS
from frappe_jobs.frappe_bench.schedule import note_failure
from frappe_jobs.host.own_methods import (
    RUN_DOC_METHOD,
    SCHEDULED_JOB_FAILED,
    SETTLE_BACKGROUND_TASKS,
    TASK_FAILED,
    TASK_SUCCEEDED,
)
from frappe_jobs.host.port import Host, user_named
from frappe_jobs.host.session import Session
from frappe_jobs.ledger.record import STARTED, Record
from frappe_jobs.message import Message

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

#: At most so many commits at a clean exit: calls after a commit may write, too, and Frappe can be
#: told to commit nothing.
LAST_COMMITS = 5

#: What Frappe's worker-pool imports before it forks, and what the first job of a process that reads
#: or saves a document imports: so a worker's processes share one copy.
PRELOADED = (
    "frappe.database.query", "frappe.query_builder", "frappe.utils.data", "frappe.utils.safe_exec",
    "frappe.utils.typing_validations", "frappe.website.path_resolver", "frappe.handler",
    "frappe.utils.user", "frappe.model.db_query", "frappe.database.mariadb.database",
    "frappe.monitor", "frappe.recorder", "frappe.utils.file_lock", "frappe.permissions",
    "frappe.core.doctype.scheduled_job_type.scheduled_job_type", "frappe.realtime",
    "frappe.model.create_new", "frappe.utils.nestedset", "frappe.utils.redis_wrapper",
    "frappe.core.doctype.docfield.docfield", "frappe.core.doctype.docperm.docperm",
    "frappe.core.doctype.has_role.has_role", "frappe.core.doctype.user.user",
    "frappe.core.doctype.system_settings.system_settings",
    "frappe.core.doctype.user_permission.user_permission", "frappe.core.doctype.version.version",
    "frappe.email.doctype.notification.notification",
    "frappe.workflow.doctype.workflow_action.workflow_action",
    "frappe.automation.doctype.assignment_rule.assignment_rule",
    "frappe.automation.doctype.milestone_tracker.milestone_tracker",
    "frappe.social.doctype.energy_point_rule.energy_point_rule",
    "frappe.core.doctype.doctype_link.doctype_link",
    "frappe.core.doctype.permission_log.permission_log", "frappe.hooks",
    "frappe.search.sqlite_search",
)  # fmt: skip


class BenchHost(Host):
    """The host of a Frappe bench."""

    def __init__(
        self,
        settings: Settings,
        schedule_changed: Callable[[str], None] = lambda site: None,
        background_tasks: Callable[[], BackgroundTasks] | None = None,
    ) -> None:
        self._settings, self._background_tasks = settings, background_tasks
        self.documents = BenchDocuments()
        self.methods = methods = BenchMethods(settings, self.on)
        self.arguments = bench_arguments(lambda: methods.apps(frappe.local.site))
        self.schedule = BenchScheduleRecords(self.read)
        self.tasks = BenchTaskRecords(self.read)
        self.done_markers = BenchDoneMarkers(self.read)
        self.outbox = BenchOutbox()
        self.methods.own |= {
            RUN_DOC_METHOD: run_doc_method,
            SCHEDULED_JOB_FAILED: note_failure,
            AFTER_JOB_CALLBACKS: lambda: frappe.local.job.after_job.run(),
            KEEP_FEW_FAILED_JOBS: keep_few_failed_jobs,
            SETTLE_BACKGROUND_TASKS: self._settle_background_tasks,
            TASK_SUCCEEDED: self._task_succeeded,
            TASK_FAILED: self._task_failed,
        }

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
        self._settings.sites.require(site)
        name = user_named(user)
        opened = BenchSession()
        drop_deaf_cache()
        # From 16 on async tasks that were started in one place share one frappe.local, until it is
        # made anew.
        frappe.destroy()
        try:
            frappe.init(site=site, sites_path=self._sites_path)
            self._connect(site)
            opened.watch_writes()
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

    def _connect(self, site: str) -> None:
        if view := joined.view_of(site):
            frappe.local.db, frappe.flags.in_test = view, True
            return
        frappe.connect(set_admin_as_user=False)
        database.limit_connecting(frappe.local.db, self._settings.db_connect_timeout)

    @contextmanager
    def joined(self, site: str, user: str | None = None) -> Iterator[BenchSession]:
        if not is_open():
            with self.session(site, user), self.joined(site) as opened:
                yield opened
            return
        if frappe.local.site != site:
            raise HostError(
                f"{frappe.local.site} is open here, and Frappe has one site open at a time: "
                f"{site} cannot be opened for a test."
            )
        in_thread(lambda: self.on(site, tables.make))  # MariaDB would commit what is open with them
        before = frappe.session.user
        with joined.rolled_back(site):
            try:
                frappe.set_user(user or before)
                yield BenchSession()
            finally:
                frappe.set_user(before)

    @contextmanager
    def shared(self) -> Iterator[None]:
        if not is_open() or joined.is_joined(frappe.local.db):
            yield
            return
        site = frappe.local.site
        in_thread(lambda: self.on(site, tables.make))
        with joined.shared(site):
            yield

    @property
    def _sites_path(self) -> str:
        """``.`` if it is the current folder: that is what Frappe's own commands say."""
        folder = self._settings.sites_path
        return "." if os.getcwd() == str(folder) else str(folder)

    def _roll_back(self, opened: BenchSession) -> None:
        try:
            if getattr(frappe.local, "db", None):
                opened.rollback()
        except Exception:  # the connection is lost, and with it the transaction
            logger.warning("the transaction could not be rolled back", exc_info=True)

    def on(self, site: str, read: Callable[[], Value]) -> Value:
        """What ``read()`` gives with the site open, whatever is open here."""
        if not is_open():
            with self.session(site):
                return read()
        if frappe.local.site == site:
            return read()
        return in_thread(lambda: self.on(site, read))

    def read(self, site: str, read: Callable[[], Value]) -> Value:
        """As ``on``; any error of the site's becomes DatabaseUnavailable."""
        try:
            return self.on(site, read)
        except FrappeJobsError:
            raise
        except Exception as error:  # a site's trouble must not stop the others
            raise DatabaseUnavailable(f"{site} cannot be read: {error!r}") from error

    def reach(self, site: str) -> None:
        self.read(site, lambda: frappe.db.sql("select 1"))

    def sites(self) -> Sequence[str]:
        return self._settings.sites.names()

    @property
    def worker_pool_schedules(self) -> bool:
        """Whether the workers of Frappe's own pool start a scheduler."""
        return hasattr(import_module("frappe.utils.background_jobs"), "FrappeWorker")

    def preload(self) -> None:
        os.chdir(self._settings.sites_path)  # where all of Frappe's processes run
        for name in PRELOADED:
            try:
                import_module(name)
            except Exception:
                logger.debug("%s is not preloaded", name, exc_info=True)
        import_module("frappe.utils.background_jobs")._start_sentry()

    def job_id(self, job_id: str) -> str:
        return spelled(job_id)

    # --- errors

    def is_conflict(self, error: BaseException) -> bool:
        return isinstance(error, frappe.RetryBackgroundJobError) or database.is_conflict(error)

    def is_out_of_reach(self, error: BaseException) -> bool:
        return super().is_out_of_reach(error) or database.is_out_of_reach(error)

    def log_error(self, title: str, error: BaseException) -> None:
        """Put it into the site's Error Log, under the method's path as Frappe does."""
        method = (getattr(frappe.local, "job", None) or {}).get("method") or title
        try:
            # Raised again, as Frappe logs the error that is being handled.
            raise error
        except type(error):
            _log_error(method)
        logger.error("%s failed: %s", title, error, extra={"action": "job_error", "job": title})

    @contextmanager
    def running(self, message: Message, kwargs: Mapping[str, Any]) -> Iterator[None]:
        frappe.local.job = frappe._dict(
            site=message.site, method=message.method, job_name=message.name, kwargs=kwargs,
            user=message.user, after_job=CallbackManager(),
        )  # fmt: skip
        with as_rqs_current(BenchJob(Record(message, STARTED, started_at=time.time()))):
            yield

    def job_for_callback(self, job: Any) -> Any:
        return BenchJob(job._record)

    def _settle_background_tasks(self) -> None:
        """Write the ends of jobs that the open site's Background Tasks do not say yet."""
        self._tasks().settle(frappe.local.site)

    def _task_succeeded(self, job: BenchJob, _redis: object, result: Any) -> None:
        """Call the on_success that the job's Background Task names."""
        self._tasks().inside.succeeded(job.task_id, result)

    def _task_failed(
        self, job: BenchJob, _redis: object, _kind: object, error: BaseException, _trace: object
    ) -> None:
        """The same with its on_failure."""
        self._tasks().inside.failed(job.task_id, error)

    def _tasks(self) -> BackgroundTasks:
        if self._background_tasks is None:
            raise HostNotReady()
        return self._background_tasks()


def drop_deaf_cache() -> None:
    """Have ``frappe.init`` make its client cache anew if it was made before this process's fork.

    The thread that removes what others have changed does not survive a fork: hooks and settings
    would be old for minutes.  Frappe 15 has no such cache.
    """
    thread = getattr(getattr(frappe, "client_cache", None), "invalidator_thread", None)
    if thread and not thread.is_alive():
        frappe.cache = frappe.client_cache = None


def run_doc_method(doctype: str, name: Any, doc_method: str, **kwargs: Any) -> Any:
    """Load the document and call its method, as Frappe's own function does."""
    return getattr(frappe.get_doc(doctype, name), doc_method)(**kwargs)


def _log_error(method: str) -> None:
    try:
        frappe.log_error(title=method)
        frappe.db.commit()
    except Exception:
        logger.exception("the error of %s could not be logged", method)


def in_thread(call: Callable[[], Value]) -> Value:
    """The call's value, from a thread of its own, in which ``frappe.local`` is empty."""
    with ThreadPoolExecutor(1, thread_name_prefix="another-site") as pool:
        return pool.submit(call).result()
