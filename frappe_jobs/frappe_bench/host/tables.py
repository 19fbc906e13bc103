"""Our tables in a bench's site that are no doctypes, as nobody looks at them."""

from __future__ import annotations

import frappe

from frappe_jobs.frappe_bench.host.beside import beside

DONE_MARKERS = "__frappe_jobs_done"
OUTBOX = "__frappe_jobs_outbox"

#: Their columns, and those of their index by age.
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
#: InnoDB whatever the server's default is, as it has transactions.
_ENGINE = {
    "mariadb": "engine=InnoDB row_format=dynamic character set=utf8mb4 collate=utf8mb4_bin",
    "postgres": "",
}
#: Seconds that making a table may wait for a lock.
PATIENCE = 10.0

#: Databases and tables in them that are known to be there.
_ready: set[tuple[str, str]] = set()


def need(table: str) -> None:
    """Make that table of the open site if need be, in a transaction of its own."""
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
    """Make the tables that the open site does not have."""
    for table in _COLUMNS:
        need(table)


def remove() -> None:
    """Remove the tables from the open site; on MariaDB this commits its open transaction."""
    for table in _COLUMNS:
        _ready.discard((str(frappe.conf.db_name), table))
        frappe.db.sql_ddl(f"drop table if exists `{table}`")
