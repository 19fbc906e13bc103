"""Run the rows that are asked for; exits 1 if a test of theirs failed."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from datetime import date
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "apps")]

from servers import page  # noqa: E402
from servers.folder import Folder, Unavailable  # noqa: E402
from servers.rows import ROWS, Result, Row, run  # noqa: E402

#: In the environment of the second start, in a namespace of its own.
INSIDE = "FRAPPE_JOBS_TEST_SERVERS_INSIDE"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make test-servers", description=__doc__)
    parser.add_argument("--only", default="", help="the rows whose names contain this")
    parser.add_argument("--write", type=Path, help="renew versions.md in that folder")
    asked, arguments = parser.parse_known_args()
    rows = [row for row in ROWS if row.name == asked.only]
    rows = rows or [row for row in ROWS if asked.only.lower() in row.name.lower()]
    if not rows:
        parser.error(f"there is no such row; known: {', '.join(row.name for row in ROWS)}")
    mount_privately()
    folders = {row.release: Folder(row.release) for row in rows}
    absent = {release: why for release, one in folders.items() if (why := missing(one))}
    results = [
        (
            Result(row.name, absent=absent[row.release])
            if row.release in absent
            else result(row, folders[row.release], arguments)
        )
        for row in rows
    ]
    print("", *results, sep="\n")
    if asked.write:
        page.write(asked.write, results, date.today())
    sys.exit(any(one.failed for one in results))


def mount_privately() -> None:
    """Start again where mounts are nobody else's, and end with the process."""
    if os.geteuid() == 0 and INSIDE not in os.environ and shutil.which("unshare"):
        os.environ[INSIDE] = "1"
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
        os.execvp(command[0], command)


def missing(folder: Folder) -> str:
    """Why the folder cannot be had here; empty if it can."""
    try:
        folder.prepare()
    except Unavailable as error:
        return str(error)
    return ""


def result(row: Row, folder: Folder, arguments: list[str]) -> Result:
    print(f"\n{row.name}, of {folder}", flush=True)
    data = Path(tempfile.mkdtemp(prefix="frappe_jobs-", dir="/tmp"))
    data.chmod(0o711)  # PostgreSQL's own user passes through it
    try:
        return run(row, folder, data, arguments)
    except Unavailable as error:
        return Result(row.name, absent=str(error))
    finally:
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    main()
