"""A second connection to the open site's database, with a transaction of its own."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import frappe
from frappe.database import get_db

from frappe_jobs.frappe_bench.host import database, joined

#: Whether this Frappe can connect by a configured Unix socket; 15.44 cannot.
KNOWS_SOCKETS = "socket" in inspect.signature(get_db).parameters
#: Seconds that connecting may take.
CONNECT_TIMEOUT = 5


@contextmanager
def beside(patience: float) -> Iterator[Any]:
    """A transaction on a connection of its own, committed on a clean exit.

    It waits for a lock no longer than ``patience`` seconds.
    """
    if view := joined.view_of(frappe.local.site):
        try:
            yield view
            view.sql("commit")
        finally:
            view.close()
        return
    conf = frappe.local.conf
    socket = {"socket": conf.db_socket} if KNOWS_SOCKETS else {}
    db = get_db(
        host=conf.db_host, port=conf.db_port, user=conf.db_name, password=conf.db_password,
        cur_db_name=conf.db_name, **socket,
    )  # fmt: skip
    try:
        database.limit_connecting(db, CONNECT_TIMEOUT)
        wait_for_locks(db, patience)
        if db.db_type == "sqlite":  # its turn to write before it reads, or it may not write at all
            db.sql("begin immediate")
        yield db
        db.sql("commit")
    finally:
        db.close()


def wait_for_locks(db: Any, seconds: float) -> None:
    """Have that connection wait for a lock no longer than that."""
    if joined.is_joined(db):  # its connection is a test's
        return
    if db.db_type == "mariadb":
        db.sql("set session innodb_lock_wait_timeout = %s", (int(seconds),))
    elif db.db_type == "sqlite":
        db.sql(f"pragma busy_timeout = {int(seconds * 1000)}")
    else:
        db.sql("set lock_timeout = %s", (f"{max(1, int(seconds * 1000))}ms",))
