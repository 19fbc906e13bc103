"""A site's outbox on a bench: a table of its database, by Frappe's own connection."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import astuple, fields, replace
from typing import Any

import frappe

from frappe_jobs.frappe_bench.host import tables
from frappe_jobs.host.outbox import Outbox, Row
from frappe_jobs.host.session import Session

logger = logging.getLogger(__name__)

TABLE = tables.OUTBOX
COLUMNS = ", ".join(column.name for column in fields(Row))
PLACES = tables.places(len(fields(Row)))

#: In a small table MariaDB would read all rows, and wait for those of open transactions.
DELETE = {
    "mariadb": f"delete job from `{TABLE}` as job force index (primary) "
    "where job.message_id in {places}",
    "postgres": f'delete from "{TABLE}" where message_id in {{places}}',
    "sqlite": f"delete from `{TABLE}` where message_id in {{places}}",
}


#: Characters of messages in one statement.
LONGEST = 1_000_000


class BenchOutbox(Outbox):
    """Reads and writes them by Frappe's own database."""

    table = TABLE

    def make_ready(self, session: Session) -> bool:
        if is_read_only():
            return False
        try:
            tables.need(TABLE)
        except Exception as error:  # sent as if there were no outbox
            logger.warning("%s has no table for its outbox: %s", session.site, error)
            return False
        return True

    def add(self, session: Session, rows: Sequence[Row]) -> None:
        for portion in _portions(rows):
            values = [
                int(value) if isinstance(value, bool) else value
                for row in portion
                for value in astuple(row)
            ]
            places = ", ".join([PLACES] * len(portion))
            frappe.db.sql(f"insert into `{TABLE}` ({COLUMNS}) values {places}", values)

    def read(
        self, session: Session, *, before: float, after: Row | None = None, limit: int
    ) -> list[Row]:
        if not tables.is_there(TABLE):
            return []
        further = ""
        values: list[Any] = [before]
        if after:
            values += [after.written_at, after.written_at, after.message_id]
            further = "and (written_at > %s or written_at = %s and message_id > %s)"
        found = frappe.db.sql(
            f"select {COLUMNS} from `{TABLE}` where written_at < %s {further} "
            "order by written_at, message_id limit %s",
            [*values, limit],
        )
        rows = [Row(*row) for row in found]
        return [replace(row, claim=bool(row.claim)) for row in rows]

    def delete(self, session: Session, message_ids: Sequence[str]) -> None:
        delete = DELETE[frappe.db.db_type].format(places=tables.places(len(message_ids)))
        frappe.db.sql(delete, [*message_ids])


def _portions(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows for each statement: MariaDB takes none over its ``max_allowed_packet``."""
    portion: list[Row] = []
    length = 0
    for row in rows:
        if portion and length + len(row.message) > LONGEST:
            yield portion
            portion, length = [], 0
        portion.append(row)
        length += len(row.message)
    if portion:
        yield portion


def is_read_only() -> bool:
    """Whether nothing can be written: a replica is read from, or the site only read."""
    primary = getattr(frappe.local, "primary_db", None)
    is_replica = primary is not None and frappe.local.db is not primary
    return is_replica or bool(frappe.flags.read_only) or frappe.db.db_type not in DELETE
