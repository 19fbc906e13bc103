"""A job's run in traces: by its name, with its site, queue and id.

OpenTelemetry's and Sentry's Celery integrations know only that our one task runs.  Neither is
imported here: where an app has not done that, nobody traces.
"""

from __future__ import annotations

import sys

from frappe_jobs.message import Message


def name_run(message: Message) -> None:
    """Have the span and the transaction of this run, where there are any, say which job it is."""
    facts = {
        "method": message.method, "site": message.site, "queue": message.queue,
        "job_id": message.job_id, "message_id": message.id,
    }  # fmt: skip
    if opentelemetry := sys.modules.get("opentelemetry.trace"):
        span = opentelemetry.get_current_span()
        span.update_name(f"run/{message.name}")
        span.set_attributes({f"frappe_jobs.{name}": value for name, value in facts.items()})
    if sentry := sys.modules.get("sentry_sdk"):
        scope = sentry.get_current_scope()
        scope.set_transaction_name(message.name, source="task")
        for name, value in facts.items():
            scope.set_tag(f"frappe_jobs.{name}", value)
