"""Delete a site's records that are kept only for some days."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from frappe_jobs.background_task.upkeep import TaskUpkeep
from frappe_jobs.config import Settings
from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.host.port import Host

logger = logging.getLogger(__name__)

#: How long a done marker is kept: no message comes back after that time.
DONE_MARKERS_FOR = timedelta(days=30)


def clear_old_records(settings: Settings, host: Host, upkeep: TaskUpkeep, now: datetime) -> None:
    """Delete old records on every site; a site that is out of reach has its turn another day."""
    logs_before = now - timedelta(days=settings.scheduled_job_log_days)
    for site in host.sites():
        try:
            host.schedule.clear_logs(site, logs_before)
            upkeep.clear(site, now)
            host.done_markers.clear(site, now - DONE_MARKERS_FOR)
        except FrappeJobsError as error:
            logger.error("old records of %s are not cleared: %s", site, error)
