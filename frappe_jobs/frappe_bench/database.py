"""What the errors of a site's database mean, by its driver; also once the site is closed."""

from __future__ import annotations

import frappe

DRIVERS = ("pymysql", "MySQLdb", "psycopg2")
KINDS = ("OperationalError", "InternalError", "InterfaceError")

#: MariaDB's errors of a connection that cannot be made, is refused, or was lost (0: before).
OUT_OF_REACH = {0, 1040, 1044, 1045, 1049, 1053, 1203, 2002, 2003, 2005, 2006, 2013, 2055, 4031}
#: And of another transaction in the way: lock wait timeout, deadlock, changed since last read.
CONFLICTS = {1205, 1213, 1020}
#: PostgreSQL's: serialization failure, deadlock, lock not available;
POSTGRES_CONFLICTS = {"40001", "40P01", "55P03"}
#: its connection was ended by its people, or it is shutting down or starting.
POSTGRES_OUT_OF_REACH = {"57P01", "57P02", "57P03"}


def is_conflict(error: BaseException) -> bool:
    """Whether another transaction was in the way, as Frappe says or the driver."""
    if isinstance(error, (frappe.QueryDeadlockError, frappe.QueryTimeoutError)):
        return True
    return _is_of_database(error) and (
        error.args[0] in CONFLICTS or getattr(error, "pgcode", None) in POSTGRES_CONFLICTS
    )


def is_out_of_reach(error: BaseException) -> bool:
    """Whether the database could not be reached, or the connection to it was lost."""
    if not _is_of_database(error):
        return False
    if hasattr(error, "pgcode"):  # none where no server answered, or answers any more
        return error.pgcode is None or error.pgcode in POSTGRES_OUT_OF_REACH
    return error.args[0] in OUT_OF_REACH


def _is_of_database(error: BaseException) -> bool:
    return bool(error.args) and any(
        kind.__name__ in KINDS and kind.__module__.partition(".")[0] in DRIVERS
        for kind in type(error).__mro__
    )
