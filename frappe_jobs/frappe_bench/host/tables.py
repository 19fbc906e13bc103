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
    "sqlite": {"text": "text", "number": "real"},
}
#: InnoDB whatever the server's default is, as it has transactions.
_ENGINE = {
    "mariadb": "engine=InnoDB row_format=dynamic character set=utf8mb4 collate=utf8mb4_bin",
    "postgres": "",
    "sqlite": "",
}
#: Which tables there are of that name.
_NAMED = {
    "mariadb": "select 1 from information_schema.tables where table_schema = database() "
    "and table_name = %s",
    "postgres": "select 1 from information_schema.tables where table_schema = current_schema() "
    "and table_name = %s",
    "sqlite": "select 1 from sqlite_master where type = 'table' and name = %s",
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
        # SQLite has one writer: where that is the open transaction, none would end its wait.
        is_writing = frappe.db.db_type == "sqlite" and frappe.db.transaction_writes
        with beside(0 if is_writing else PATIENCE) as db:
            kind, (columns, index) = db.db_type, _COLUMNS[table]
            typed = columns.format(**_TYPES[kind])
            db.sql(f"create table if not exists `{table}` ({typed}) {_ENGINE[kind]}")
            db.sql(f"create index if not exists `{table}_by_age` on `{table}` ({index})")
    _ready.add(key)


def is_there(table: str) -> bool:
    """Whether the open site has that table."""
    return bool(frappe.db.sql(_NAMED[frappe.db.db_type], (table,)))


def places(count: int) -> str:
    """Placeholders for so many values: Frappe expands no list on SQLite, and quotes names badly."""
    return f"({', '.join(['%s'] * count)})"


def make() -> None:
    """Make the tables that the open site does not have; on SQLite this commits what is open."""
    if frappe.db.db_type == "sqlite":
        frappe.db.commit()
    for table in _COLUMNS:
        need(table)


def remove() -> None:
    """Remove the tables from the open site; on MariaDB this commits its open transaction."""
    for table in _COLUMNS:
        _ready.discard((str(frappe.conf.db_name), table))
        frappe.db.sql_ddl(f"drop table if exists `{table}`")
