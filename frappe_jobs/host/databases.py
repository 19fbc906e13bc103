"""What the databases' drivers say and take, whichever host uses them."""

from __future__ import annotations

#: PyMySQL's limits for each read and write, which are ours only while it connects.
UNTIL_CONNECTED = ("read_timeout", "write_timeout")

#: PostgreSQL's codes for a conflict: serialization failure, deadlock, lock not available.
POSTGRES_CONFLICTS = {"40001", "40P01", "55P03"}

#: SQLite's texts for a conflict: another connection's lock; one in a shared cache.
SQLITE_CONFLICTS = ("database is locked", "database table is locked")
