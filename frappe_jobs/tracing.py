"""A job in traces: its run's name, and the trace of whoever enqueued it, which goes on in it.

OpenTelemetry's and Sentry's Celery integrations know only that our one task runs, and see a retry,
or a job for later, being sent by a worker's thread.  Neither is imported here: where an app has not
done that, nobody traces.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from frappe_jobs.message import Message

#: Of what propagators write: more would make each record of a job longer for nothing.
LONGEST = 4000
#: What W3C's, Sentry's, Zipkin's, Jaeger's and Amazon's propagators write; no header of Celery's.
HEADERS = frozenset(
    "traceparent tracestate baggage sentry-trace b3 x-b3-traceid x-b3-spanid x-b3-parentspanid"
    " x-b3-sampled x-b3-flags uber-trace-id x-amzn-trace-id".split()
)


def name_run(message: Message) -> None:
    """Have the span and the transaction of this run, where there are any, say which job it is."""
    facts = {
        "method": message.method, "site": message.site, "queue": message.queue,
        "job_id": message.job_id, "message_id": message.id,
    }  # fmt: skip
    # A tracer is somebody else's, and must not keep a job from running.
    with suppress(Exception):
        if opentelemetry := sys.modules.get("opentelemetry.trace"):
            span = opentelemetry.get_current_span()
            span.update_name(f"run/{message.name}")
            span.set_attributes({f"frappe_jobs.{name}": value for name, value in facts.items()})
    with suppress(Exception):
        if sentry := sys.modules.get("sentry_sdk"):
            # Frappe 15 pins Sentry 1, which has its hub for all.
            scope = sentry.get_current_scope() if _is_sentry_2(sentry) else sentry.Hub.current.scope
            scope.set_transaction_name(message.name, source="task")
            for name, value in facts.items():
                scope.set_tag(f"frappe_jobs.{name}", value)


def trace_here() -> Mapping[str, str] | None:
    """What says which trace this code is part of, as HTTP headers would; None if nobody traces."""
    found: dict[str, str] = {}
    # A propagator is somebody else's, and must not keep a job from being sent.
    with suppress(Exception):
        if opentelemetry := sys.modules.get("opentelemetry.propagate"):
            opentelemetry.inject(found)
    with suppress(Exception):
        sentry = sys.modules.get("sentry_sdk")
        if sentry and _is_sentry_on(sentry):
            theirs = {"sentry-trace": sentry.get_traceparent(), "baggage": sentry.get_baggage()}
            found |= {name: value for name, value in theirs.items() if value}
    known = _known(found)
    return known if known and sum(map(len, known.values())) <= LONGEST else None


def _is_sentry_2(sentry: Any) -> bool:
    return hasattr(sentry, "get_current_scope")


def _is_sentry_on(sentry: Any) -> bool:
    if _is_sentry_2(sentry):
        return bool(sentry.get_client().is_active())
    return sentry.Hub.current.client is not None


@contextmanager
def going_on(message: Message) -> Iterator[None]:
    """Inside, this thread is part of OpenTelemetry's trace in which the job was enqueued, if any.

    Sentry needs the message's headers alone.
    """
    propagate, context = map(sys.modules.get, ("opentelemetry.propagate", "opentelemetry.context"))
    if not (message.trace and propagate and context):
        yield
        return
    token = None
    with suppress(Exception):  # a propagator's own; the job is sent all the same
        token = context.attach(propagate.extract(_known(message.trace)))
    try:
        yield
    finally:
        if token is not None:
            context.detach(token)


def headers_of(message: Message) -> dict[str, Any]:
    """The headers by which a worker's tracers find the job's trace; theirs take their place.

    Once more inside ``headers``, where Sentry reads them, for Celery issue 4875.
    """
    known = _known(message.trace or {})
    return {**known, "headers": known} if known else {}


def _known(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in headers.items()
        if name.lower() in HEADERS and isinstance(value, str)
    }
