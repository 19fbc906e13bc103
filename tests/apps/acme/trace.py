"""Jobs and hooks leave their marks in a file: what ran, where and in what order."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID
from zlib import crc32

import frappe_jobs as frappe


def path() -> Path:
    return Path(os.environ["SITES_PATH"]).parent / "trace.jsonl"


def mark(what: str, **values) -> None:
    """One line, whole: O_APPEND keeps those of several processes apart."""
    line = {
        "what": what,
        "site": frappe.local.site,
        "user": frappe.session.user,
    } | values
    with path().open("a") as file:
        file.write(json.dumps(line | {"at": time.time(), "pid": os.getpid()}, default=repr) + "\n")


@contextmanager
def alone(message_id: str) -> Iterator[bool]:
    """Whether no other process is in this block for that message; the system frees it for the dead.

    One byte of the file stands for each message.
    """
    byte = UUID(message_id).int % 2**60
    with path().with_name("runs.lock").open("ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError:
            yield False
        else:
            yield True


@contextmanager
def room(key: str, most: int) -> Iterator[bool]:
    """Whether fewer than ``most`` processes are in this block for that key, the dead apart."""
    with path().with_name("rooms.lock").open("ab") as file:
        for number in range(most):
            byte = crc32(f"{key} {number}".encode())
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except OSError:
                continue
            yield True
            return
        yield False


def marks(what: str | None = None) -> list[dict]:
    lines = path().read_text().splitlines(keepends=True) if path().exists() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]  # else it is being written
    return [line for line in found if what in (None, line["what"])]


def before_job(method, kwargs, transaction_type) -> None:
    mark("before_job", method=method, kwargs=kwargs, transaction_type=transaction_type)
    if kwargs.get("fail_before"):
        raise ValueError("the before_job hook objects")


def after_job(method, result) -> None:  # takes no kwargs: hooks get what they have parameters for
    mark("after_job", method=method, result=result)
    if result == "upset the after_job hook":
        raise ValueError("the after_job hook objects")
    if result == "end the after_job hook":
        raise SystemExit(3)
