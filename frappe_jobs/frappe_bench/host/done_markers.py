"""A site's done markers on a bench: a table of its database, by Frappe's own connection."""

from __future__ import annotations

import time
from datetime import datetime

import frappe

from frappe_jobs.frappe_bench.host import tables
from frappe_jobs.frappe_bench.host.reading import Read
from frappe_jobs.host.done_markers import AlreadyDone, DoneMarker, DoneMarkers
from frappe_jobs.host.session import Session

TABLE = tables.DONE_MARKERS


class BenchDoneMarkers(DoneMarkers):
    """By Frappe's own database; ``clear`` opens the site."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def put(self, session: Session, marker: DoneMarker, before: DoneMarker | None = None) -> None:
        tables.need(TABLE)
        if before:
            frappe.db.sql(
                f"update `{TABLE}` set run = %s, result = %s, done_at = %s "
                "where name = %s and result = %s",
                (marker.run, marker.result, time.time(), before.name, before.result),
            )
            if frappe.db._cursor.rowcount == 0:
                raise AlreadyDone
            return
        try:
            frappe.db.sql(
                f"insert into `{TABLE}` (name, run, result, done_at) values (%s, %s, %s, %s)",
                (marker.name, marker.run, marker.result, time.time()),
            )
        except Exception as error:
            if frappe.db.is_primary_key_violation(error) or frappe.db.is_duplicate_entry(error):
                raise AlreadyDone from None
            raise

    def look(self, session: Session, name: str) -> DoneMarker | None:
        tables.need(TABLE)
        rows = frappe.db.sql(f"select name, run, result from `{TABLE}` where name = %s", (name,))
        return DoneMarker(*rows[0]) if rows else None

    def clear_some(self, site: str, before: datetime, limit: int) -> int:
        return self._read(site, lambda: _clear_some(before.timestamp(), limit))


def _clear_some(before: float, limit: int) -> int:
    if not tables.is_there(TABLE):
        return 0
    names = frappe.db.sql(
        f"select name from `{TABLE}` where done_at < %s order by done_at limit {limit}",
        (before,), pluck=True,
    )  # fmt: skip
    if names:
        frappe.db.sql(f"delete from `{TABLE}` where name in {tables.places(len(names))}", names)
        frappe.db.commit()
    return len(names)
