"""Each page: what it shows, from the same rows and findings as the commands."""

from __future__ import annotations

from frappe_jobs.web.pages import audit, job, jobs, overview

#: In the order of the menu.
PAGES = (overview.PAGE, jobs.PAGE, job.PAGE, audit.PAGE)
