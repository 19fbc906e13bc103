"""What the drivers of databases say and take, by which host ever they are used."""

from __future__ import annotations

#: PyMySQL's limits of each read and write, which hold while it connects.
UNTIL_CONNECTED = ("read_timeout", "write_timeout")

#: PostgreSQL's word for another transaction in the way: serialization failure, deadlock, lock not
#: available.
POSTGRES_CONFLICTS = {"40001", "40P01", "55P03"}
