"""A site's done markers on a bench: a table of its database, by Frappe's own connection."""

from __future__ import annotations

import time
from datetime import datetime
from itertools import count

import frappe

from frappe_jobs.frappe_bench.host import tables
from frappe_jobs.frappe_bench.host.reading import Read
from frappe_jobs.host.done_markers import AlreadyDone, DoneMarker, DoneMarkers
from frappe_jobs.host.session import Session

TABLE = tables.DONE_MARKERS

#: Rows deleted in one transaction.
CHUNK = 1_000


class BenchDoneMarkers(DoneMarkers):
    """By Frappe's own database; ``clear`` opens the site."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def add(self, session: Session, marker: DoneMarker) -> None:
        tables.need(TABLE)
        try:
            frappe.db.sql(
                f"insert into `{TABLE}` (message_id, run, result, done_at) values (%s, %s, %s, %s)",
                (marker.message_id, marker.run, marker.result, time.time()),
            )
        except Exception as error:
            if frappe.db.is_primary_key_violation(error) or frappe.db.is_duplicate_entry(error):
                raise AlreadyDone from None
            raise

    def find(self, session: Session, message_id: str) -> DoneMarker | None:
        tables.need(TABLE)
        try:
            rows = frappe.db.sql(
                f"select message_id, run, result from `{TABLE}` where message_id = %s",
                (message_id,),
            )
            return DoneMarker(*rows[0]) if rows else None
        finally:
            session.rollback()

    def clear(self, site: str, before: datetime) -> int:
        return self._read(site, lambda: _clear(before.timestamp()))


def _clear(before: float) -> int:
    if not tables.is_there(TABLE):
        return 0
    for gone in count(step=CHUNK):
        ids = frappe.db.sql(
            f"select message_id from `{TABLE}` where done_at < %s order by done_at limit {CHUNK}",
            (before,), pluck=True,
        )  # fmt: skip
        if ids:
            frappe.db.sql(f"delete from `{TABLE}` where message_id in %s", (tuple(ids),))
            frappe.db.commit()
        if len(ids) < CHUNK:
            return gone + len(ids)
    return 0
