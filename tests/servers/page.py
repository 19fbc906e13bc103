"""The page that says which versions the tests have met, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from servers.rows import ROWS, Result

HEAD = """\
# Versions

frappe_jobs runs on Python 3.10 to 3.14, Redis 7 and 8 or Valkey 8 and 9, RabbitMQ 3.10 to 4.3, and
keeps sites in SQLite, PostgreSQL or MariaDB. `make test` runs every test on the servers that the
machine has, and `make test-floor` runs the tests that use other libraries on the oldest supported
versions of those. Newer servers are tested by

```sh
make test-servers ARGS="--write docs"
```

which puts newer Debian releases into folders of their own, runs their servers beside the machine's,
and renews the rows of this page. The folders lie under `/var/cache/frappe_jobs/servers`, or where
`FRAPPE_JOBS_TEST_SERVERS` says. It needs root and Debian's `debootstrap`. A server that cannot
be installed is named, and its row stays as it was. `ARGS="--only RabbitMQ"` runs the rows of that
name.

"""

TABLE = """\
| server | version | tested on | passed | failed | skipped |
|---|---|---|---|---|---|
"""

TAIL = """
A "strict" RabbitMQ permits no deprecated feature, and its default queue type is quorum. TLS is
tested on servers that speak nothing else, with certificates of the tests' own authority. A broker's
row is the contract of brokers, the tests of real workers, and a short form of the kills; a
database's row is the contract of hosts. Skipped tests need another server beside it.
"""


def write(folder: Path, results: Sequence[Result], today: date) -> None:
    """Renew in that folder's ``versions.md`` the rows of these results; the others stay."""
    file = folder / "versions.md"
    lines = _lines(file.read_text()) if file.exists() else {}
    lines |= {one.name: _line(one, today) for one in results if not one.absent}
    rows = "".join(f"{lines[row.name]}\n" for row in ROWS if row.name in lines)
    file.write_text(HEAD + TABLE + rows + TAIL)


def _lines(text: str) -> dict[str, str]:
    """The page's rows, by the server's name."""
    table = (line for line in text.splitlines() if line.startswith("| "))
    return {line.split(" | ")[0].removeprefix("| "): line for line in table}


def _line(one: Result, today: date) -> str:
    number = one.version.partition(" ")[2]
    return (
        f"| {one.name} | {number} | {today:%Y-%m-%d} | {one.passed:,} | {one.failed:,} "
        f"| {one.skipped:,} |"
    )
