"""A job's run and the tracers of its process, which are somebody else's."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from frappe_jobs.message import Message
from frappe_jobs.tracing import name_run, trace_here

MESSAGE = Message(
    id="m1", job_id="j1", site="site1", user="Administrator", method="acme.tasks.add",
    arguments={}, queue="short", name="Add", timeout=300, enqueued_at=0.0,
)  # fmt: skip
TRACERS = ("opentelemetry.trace", "opentelemetry.propagate", "sentry_sdk")


def test_a_tracer_that_lacks_what_is_asked_of_it_keeps_no_job_from_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in TRACERS:
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    name_run(MESSAGE)
    assert trace_here() is None


class ScopeOfSentry1:
    """What Sentry 1.45, which Frappe 15 pins, has of it."""

    def __init__(self) -> None:
        self.name, self.tags = ("", ""), dict[str, str]()

    def set_transaction_name(self, name: str, source: str) -> None:
        self.name = (name, source)

    def set_tag(self, key: str, value: str) -> None:
        self.tags[key] = value


@pytest.mark.parametrize("client", [object(), None], ids=["on", "off"])
def test_sentry_1_is_served_as_sentry_2(
    monkeypatch: pytest.MonkeyPatch, client: object | None
) -> None:
    scope = ScopeOfSentry1()
    for name in TRACERS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "sentry_sdk", SimpleNamespace(
        Hub=SimpleNamespace(current=SimpleNamespace(scope=scope, client=client)),
        get_traceparent=lambda: "01-02-1", get_baggage=lambda: None,
    ))  # fmt: skip
    name_run(MESSAGE)
    assert scope.name == ("Add", "task")
    assert scope.tags == {
        "frappe_jobs.method": "acme.tasks.add", "frappe_jobs.site": "site1",
        "frappe_jobs.queue": "short", "frappe_jobs.job_id": "j1", "frappe_jobs.message_id": "m1",
    }  # fmt: skip
    assert trace_here() == ({"sentry-trace": "01-02-1"} if client else None)
