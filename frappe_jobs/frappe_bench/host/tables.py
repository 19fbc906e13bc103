"""The tables that a site of a bench has for us beside its doctypes, which nobody looks at."""

from __future__ import annotations

import frappe

from frappe_jobs.frappe_bench.host.beside import beside

DONE_MARKERS = "__frappe_jobs_done"
OUTBOX = "__frappe_jobs_outbox"

#: Their columns, and those of their index, oldest rows first.
_COLUMNS = {
    DONE_MARKERS: (
        """name varchar(255) primary key, run varchar(140) not null, result {text},
        done_at {number} not null""",
        "done_at",
    ),
    OUTBOX: (
        """message_id varchar(140) primary key, note varchar(40) not null,
        bench_id varchar(255) not null, site varchar(255) not null, message {text} not null,
        claim smallint not null, written_at {number} not null""",
        "written_at, message_id",
    ),
}
_TYPES = {
    "mariadb": {"text": "longtext", "number": "double"},
    "postgres": {"text": "text", "number": "double precision"},
}
#: InnoDB whatever the server's default is: a table without transactions would be of no use.
_ENGINE = {
    "mariadb": "engine=InnoDB row_format=dynamic character set=utf8mb4 collate=utf8mb4_bin",
    "postgres": "",
}
#: Seconds that making one may wait for a lock.
PATIENCE = 10.0

#: The sites whose tables are known to be there, with them.
_ready: set[tuple[str, str]] = set()


def need(table: str) -> None:
    """Have that table of the open site, made if need be, beside its transaction."""
    key = (str(frappe.conf.db_name), table)
    if key in _ready:
        return
    if not is_there(table):
        with beside(PATIENCE) as db:
            kind, (columns, index) = db.db_type, _COLUMNS[table]
            typed = columns.format(**_TYPES[kind])
            db.sql(f"create table if not exists `{table}` ({typed}) {_ENGINE[kind]}")
            db.sql(f"create index if not exists `{table}_by_age` on `{table}` ({index})")
    _ready.add(key)


def is_there(table: str) -> bool:
    """Whether the open site has that table."""
    schema = "database()" if frappe.db.db_type == "mariadb" else "current_schema()"
    return bool(
        frappe.db.sql(
            f"select 1 from information_schema.tables where table_schema = {schema} "
            "and table_name = %s",
            (table,),
        )
    )


def make() -> None:
    """Make those of the open site that it does not have."""
    for table in _COLUMNS:
        need(table)


def remove() -> None:
    """Remove all of them from the open site; what was open there is committed (MariaDB)."""
    for table in _COLUMNS:
        _ready.discard((str(frappe.conf.db_name), table))
        frappe.db.sql_ddl(f"drop table if exists `{table}`")
