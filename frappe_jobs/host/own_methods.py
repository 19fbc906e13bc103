"""The methods that every host has itself, by the paths under which their jobs travel."""

from __future__ import annotations

#: What enqueue_doc sends.
RUN_DOC_METHOD = "frappe_jobs.run_doc_method"
#: What the scheduler sends, and what is called when such a job's process was killed.
RUN_SCHEDULED_JOB = "frappe_jobs.run_scheduled_job"
SCHEDULED_JOB_FAILED = "frappe_jobs.scheduled_job_failed"
#: What the sweep sends when jobs of committed transactions were never sent.
RELAY_OUTBOX = "frappe_jobs.relay_outbox"
#: What the sweep sends when Background Tasks do not say how their jobs ended.
SETTLE_BACKGROUND_TASKS = "frappe_jobs.settle_background_tasks"
#: What is called when a job of ``enqueue_task`` has ended, to call what its record names.
TASK_SUCCEEDED = "frappe_jobs.task_succeeded"
TASK_FAILED = "frappe_jobs.task_failed"
#: What a Django task is sent as, and what is called when its job has ended.
RUN_DJANGO_TASK = "frappe_jobs.run_django_task"
DJANGO_TASK_ENDED = "frappe_jobs.django_task_ended"
