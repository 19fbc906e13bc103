"""The methods that every host has itself, by the paths under which their jobs travel."""

from __future__ import annotations

#: What enqueue_doc sends.
RUN_DOC_METHOD = "frappe_jobs.run_doc_method"
#: What the scheduler sends, and what is called where such a job's process was killed.
RUN_SCHEDULED_JOB = "frappe_jobs.run_scheduled_job"
SCHEDULED_JOB_FAILED = "frappe_jobs.scheduled_job_failed"
#: What the sweep sends: where a job that a transaction committed was never sent, and
RELAY_OUTBOX = "frappe_jobs.relay_outbox"
#: where a tracked job's record does not say how it ended.
SETTLE_BACKGROUND_TASKS = "frappe_jobs.settle_background_tasks"
