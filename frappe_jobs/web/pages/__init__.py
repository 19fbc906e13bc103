"""Each page: what it shows, from the same rows and findings as the commands."""

from __future__ import annotations

from frappe_jobs.web.pages import (
    audit,
    bulk,
    doctor,
    job,
    jobs,
    overview,
    queues,
    schedule,
    tasks,
)

#: In the order of the menu.
PAGES = (
    overview.PAGE, jobs.PAGE, job.PAGE, bulk.PAGE, queues.PAGE, schedule.PAGE, tasks.PAGE,
    doctor.PAGE, audit.PAGE,
)  # fmt: skip
