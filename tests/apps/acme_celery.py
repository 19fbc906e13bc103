"""A team's own Celery app, as it was before frappe_jobs; with a function that extends it."""

import logging
import os
import time

from celery import Celery

from frappe_jobs.celery.app import extend_app

PREFIX = os.environ.get("ACME_PREFIX", "acme")

app = Celery("acme_team", broker=os.environ.get("ACME_BROKER"), set_as_current=False)
app.conf.update(
    result_backend=os.environ.get("ACME_BACKEND", os.environ.get("ACME_BROKER")),
    task_default_queue=f"{PREFIX}-celery",
    task_routes={"team.mail": {"queue": f"{PREFIX}-mail"}},
    task_serializer="json",
    accept_content=os.environ.get("ACME_ACCEPT", "json,yaml").split(","),
    task_default_priority=3,
    worker_prefetch_multiplier=2,
    broker_transport_options={"visibility_timeout": 1234, "priority_steps": [0, 3, 6, 9]},
    redbeat_key_prefix=f"{PREFIX}-redbeat:",
    beat_schedule={"mail": {"task": "team.mail", "schedule": 3600.0}},
)


@app.task(name="team.double")
def double(x):
    return 2 * x


@app.task(name="team.mail")
def mail(to):
    return f"mailed {to}"


@app.task(name="team.call", bind=True, autoretry_for=(ConnectionError,), default_retry_delay=0.1)
def call(self):
    if self.request.retries < 2:
        raise ConnectionError("nobody answers")
    return self.request.retries


@app.task(name="team.ring", rate_limit="2/s")
def ring():
    return time.time()


if os.environ.get("ACME_DEBUG"):  # a worker says of which steps it is made
    logging.getLogger("celery.bootsteps").setLevel(logging.DEBUG)

if os.environ.get("SITES_PATH"):
    extend_app(app)
