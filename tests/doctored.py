"""What tests share that look at a bench with something wrong."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.dispatch import Options
from frappe_jobs.message import Message, Sending

#: What each of a bench's processes imports first: its clock is so many seconds ahead.
AHEAD = "import time; real = time.time; time.time = lambda: real() + {seconds}"


def one(findings: Iterable[Any], text: str) -> Any:
    """The only finding that says so."""
    (found,) = [finding for finding in findings if text in str(finding)]
    return found


def worst(findings: Iterable[Any]) -> list[tuple[str, str]]:
    """Level and text of those that are not ok."""
    return [(finding.level, finding.what) for finding in findings if finding.level != "ok"]


def composed(site: str, method: Any = tasks.ping, arguments: Any = None, **options: Any) -> Message:
    """A job as it would be sent."""
    here = runtime.current()
    with frappe.site(site):
        return here.dispatcher.compose(
            method, arguments or {}, Options(**options), here.host.require_current()
        )


def send(site: str = "site1", method: Any = tasks.ping, *, ago: float = 0.0, **more: Any) -> Any:
    """A job that was enqueued so many seconds ago."""
    here = runtime.current()
    message = replace(composed(site, method, **more), enqueued_at=time.time() - ago)
    assert here.broker.publish([Sending(message)], here.ledger) == [True]
    return here.jobs.of_message(message)


def lose(bench: Any) -> None:
    """Take every message of the default queue away, behind everybody's back."""
    assert runtime.current().ledger.redis.delete(f"{bench.id}:default\x06\x166")


def clock_ahead(bench: Any, seconds: float) -> AbstractContextManager[None]:
    """The processes that the bench starts meanwhile have another clock."""
    return beginning_with(bench, AHEAD.format(seconds=seconds))


@contextmanager
def beginning_with(bench: Any, code: str) -> Iterator[None]:
    """The processes that the bench starts meanwhile run that first."""
    folder = bench.path / "first"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(code)
    bench.variables["PYTHONPATH"] = str(folder)
    bench.starts_cold = True
    try:
        yield
    finally:
        bench.starts_cold = False
        del bench.variables["PYTHONPATH"]
