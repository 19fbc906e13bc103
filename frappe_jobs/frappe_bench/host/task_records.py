"""Background Tasks on a bench: written in the job's transaction, or beside it.

Beside it means in a short transaction on a second connection: what the open site's transaction has
written, read or locked stays as it is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import frappe
from frappe.utils import get_system_timezone, now

from frappe_jobs.background_task.record import LENGTHS, LISTED, OPEN, storable
from frappe_jobs.errors import ArgumentError, RecordNotWritten
from frappe_jobs.frappe_bench.host import database
from frappe_jobs.frappe_bench.host.beside import beside, wait_for_locks
from frappe_jobs.frappe_bench.host.bound import document_of
from frappe_jobs.frappe_bench.host.reading import Read
from frappe_jobs.frappe_bench.rq.rq_options import FRAPPES_RUN_DOC_METHOD
from frappe_jobs.host.session import Session
from frappe_jobs.host.task_records import TaskChange, TaskRecords

logger = logging.getLogger(__name__)

DOCTYPE = "Background Task"
SAVEPOINT = "frappe_jobs_background_task"
#: What the Desk's panel shows of a task.
TOLD = ("status", "progress", "stage")
#: A column of our doctype; to Frappe's own of that name it is added, and empty for its own tasks.
OURS = "message_id"


class BenchTaskRecords(TaskRecords):
    """Reads and writes them by Frappe's own database; a call that names a site opens it."""

    def __init__(self, read: Read) -> None:
        self._read = read

    @property
    def functions(self) -> Any:
        return _frappes_and_ours()

    def add(self, session: Session, records: Sequence[Mapping[str, Any]]) -> None:
        """Add them; raises ArgumentError as well if the site has no such table, or field."""
        if not is_there():
            raise ArgumentError(
                f"track_job: {frappe.local.site} has no {DOCTYPE} with the field {OURS!r}; install "
                "frappe_jobs on the site, or have it made: "
                f"bench --site {frappe.local.site} migrate"
            )
        for values in records:
            _check(values)
            _insert(frappe.db, values)
            _tell(values, values, after_commit=True)

    def change(
        self, session: Session, change: TaskChange, *, patience: float | None = None
    ) -> bool:
        """Change a record; if that fails, only the change is rolled back, if the database can."""
        db = frappe.db
        if patience is not None:
            wait_for_locks(db, patience)
        db.savepoint(SAVEPOINT)
        try:
            changed = _update(db, change)
            _tell(change.values, _owner(db, change) if changed else None, after_commit=True)
            return changed
        except Exception as error:
            if database.has_ended_transaction(error):
                database.keep_from_commit(db, error)
                raise
            db.rollback(save_point=SAVEPOINT)  # raises if the connection is lost
            raise _not_written(error) from error

    def change_beside(
        self,
        site: str,
        changes: Sequence[TaskChange],
        done: Callable[[], object] = lambda: None,
        *,
        patience: float,
    ) -> bool:
        self._read(site, lambda: change_beside(changes, patience))
        done()
        return True

    def note_progress(self, session: Session, change: TaskChange) -> bool:
        """Write how far a job is, unless its own transaction could not change the record then."""
        if not is_there() or (frappe.db._conn and _sees_snapshots(frappe.db)):
            return False
        try:
            with beside(0) as db:
                owner = _owner(db, change) if _update(db, change) else None
            _tell(change.values, owner)
        except Exception as error:
            logger.debug("the progress of %s is not written: %s", change.task_id, error)
        return True

    def recent(self, user: str | None, limit: int) -> list[dict[str, Any]]:
        if not limit or not is_there():
            return []
        filters = {OURS: ("is", "set")} | ({} if user is None else {"user": user})
        rows = frappe.get_all(
            DOCTYPE, filters, [*LISTED], order_by="creation desc", limit_page_length=limit
        )
        return [dict(row) for row in rows]

    def open(self, site: str, before: datetime) -> dict[str, str]:
        return self._read(site, lambda: open_ones(before))

    def clear(self, site: str, before: datetime) -> int:
        return self._read(site, lambda: clear(before))


@cache
def _frappes_and_ours() -> Any:
    """Frappe's functions, those that also serve the tasks of tracked jobs in their place."""
    if (theirs := frappes_functions()) is None:
        return None
    ours = import_module("frappe_jobs.frappe_bench.tracked_task")
    served = {name: getattr(ours, name, found) for name, found in vars(theirs).items()}
    return SimpleNamespace(**served)


@cache
def frappes_functions() -> Any:
    """Its functions for Background Tasks of its own; None before 16."""
    try:
        found = vars(import_module("frappe.utils.task_queue"))
        page = vars(import_module("frappe.core.doctype.background_task.background_task"))
    except ImportError:
        return None
    names = ("enqueue_task", "get_current_task", "get_task_status", "stop_task", "retry_task")
    return SimpleNamespace(**{name: (page | found)[name] for name in names})


# --- beside the open transaction


def change_beside(changes: Sequence[TaskChange], patience: float) -> None:
    """Change records in a short transaction; add what is not there, if the change says so."""
    if not is_there():
        return
    told = []
    try:
        with beside(patience) as db:
            for change in changes:
                if _update(db, change):
                    told.append((change.values, _owner(db, change)))
                elif change.otherwise and not _has(db, change.task_id):
                    _insert(db, change.otherwise)
    except (frappe.QueryDeadlockError, frappe.QueryTimeoutError) as error:
        raise _not_written(error) from error
    for values, owner in told:
        _tell(values, owner)


# --- the Desk's panel, of 16 and later


def _owner(db: Any, change: TaskChange) -> dict[str, Any] | None:
    """Whose the task is, where somebody is to be told."""
    if frappes_functions() is None:
        return None
    table = frappe.qb.DocType(DOCTYPE)
    query = frappe.qb.from_(table).select(table.user, table.task_name)
    rows = db.sql(*query.where(table.name == change.task_id).walk())
    return {"task_id": change.task_id, "user": rows[0][0], "task_name": rows[0][1]}


def _tell(
    values: Mapping[str, Any], owner: Mapping[str, Any] | None, *, after_commit: bool = False
) -> None:
    """Tell the owner's panel what has changed, as Frappe's own tasks do."""
    said = {name: values[name] for name in TOLD if values.get(name) is not None}
    if said and owner and frappes_functions():
        message = {name: owner[name] for name in ("task_id", "task_name")} | said
        frappe.publish_realtime(
            "task_update", message, user=owner["user"], after_commit=after_commit
        )


def _sees_snapshots(db: Any) -> bool:
    """Whether a transaction refuses to change what has changed since it began.

    MariaDB's does from 11.6 on, SQLite's refuses any change once another has written.
    """
    if db.db_type != "mariadb":
        return bool(db.db_type == "sqlite")
    found = db.sql("show variables like 'innodb_snapshot_isolation'")
    return bool(found) and found[0][1] == "ON"


# --- looking, and clearing


def is_there() -> bool:
    """Whether the open site has our doctype, or our field in Frappe's own of that name."""
    return bool(frappe.db.table_exists(DOCTYPE)) and bool(frappe.db.has_column(DOCTYPE, OURS))


def open_ones(before: datetime) -> dict[str, str]:
    """By task id the newest messages of records from before then that have not ended."""
    if not is_there():
        return {}
    filters = {"status": ("in", OPEN), "creation": ("<", local(before)), OURS: ("is", "set")}
    rows = frappe.get_all(DOCTYPE, filters, ["name", "message_id"])
    return {row.name: row.message_id for row in rows}


def clear(before: datetime) -> int:
    """Delete the records of jobs that ended before then, and commit."""
    if not is_there():
        return 0
    frappe.db.delete(DOCTYPE, {"ended_at": ("<", local(before)), OURS: ("is", "set")})
    gone = int(frappe.db._cursor.rowcount)
    frappe.db.commit()
    return gone


# --- values and statements


def local(at: datetime) -> datetime:
    """Naive, in the site's time zone, as all of Frappe's times are."""
    return at.astimezone(ZoneInfo(get_system_timezone())).replace(tzinfo=None)


def columns_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a record as the table takes them."""
    return {
        name: local(value) if isinstance(value, datetime) else value
        for name, value in storable(dict(values)).items()
    }


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(values)
    if not values["ref_doctype"]:
        values |= _about(values["method"], json.loads(values["arguments"]))
    today = now()
    return columns_of(values) | {
        "name": values["task_id"], "owner": values["user"], "modified_by": values["user"],
        "creation": today, "modified": today, "docstatus": 0, "idx": 0,
    }  # fmt: skip


def _about(method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The document that the job is about, as fields of its record."""
    if method == FRAPPES_RUN_DOC_METHOD:
        name = arguments.get("name")
        return {"ref_doctype": arguments.get("doctype"), "ref_docname": name and str(name)}
    doctype, docname = document_of(arguments) or (None, None)
    return {"ref_doctype": doctype, "ref_docname": docname}


def _check(values: Mapping[str, Any]) -> None:
    for name, longest in LENGTHS.items():
        if not values[name] or len(values[name]) > longest:
            raise ArgumentError(
                f"It cannot be tracked: {name!r} is {str(values[name])[:60]!r}; "
                f"legal: a text of 1 to {longest} characters."
            )


def _insert(db: Any, values: Mapping[str, Any]) -> None:
    row = _row(values)
    query = frappe.qb.into(frappe.qb.DocType(DOCTYPE)).columns(*row).insert(*row.values())
    db.sql(*query.walk())


def _update(db: Any, change: TaskChange) -> bool:
    """Gives whether there was such a record."""
    table = frappe.qb.DocType(DOCTYPE)
    query = frappe.qb.update(table).where(table.name == change.task_id)
    # MariaDB counts only rows that change: "modified" always does.
    for name, value in {**columns_of(change.values), "modified": now()}.items():
        query = query.set(table[name], value)
    if change.message_id is not None:
        query = query.where(table.message_id == change.message_id)
    if change.unless_ended is not None:
        query = query.where((table.message_id != change.unless_ended) | table.status.isin(OPEN))
    if change.statuses:
        query = query.where(table.status.isin([*change.statuses]))
    db.sql(*query.walk())
    return bool(db._cursor.rowcount)


def _has(db: Any, task_id: str) -> bool:
    table = frappe.qb.DocType(DOCTYPE)
    query = frappe.qb.from_(table).select(table.name).where(table.name == task_id)
    return bool(db.sql(*query.walk()))


def _not_written(error: BaseException) -> RecordNotWritten:
    return RecordNotWritten(f"Its Background Task could not be written just now: {error}")
