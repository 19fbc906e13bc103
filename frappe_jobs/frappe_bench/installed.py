"""Whether sites of the bench have the app: being in ``apps.txt`` alone switches nothing."""

from __future__ import annotations

import logging

import frappe

from frappe_jobs.frappe_bench.host.session import runtime

logger = logging.getLogger(__name__)

APP = "frappe_jobs"


def anywhere(*, but: str | None = None, unknown: bool) -> bool:
    """Whether a site, except ``but``, has it; ``unknown`` is the answer of an unreachable site."""
    return any(_has_it(site, unknown) for site in runtime().host.sites() if site != but)


def _has_it(site: str, unknown: bool) -> bool:
    try:
        return APP in runtime().host.read(site, frappe.get_installed_apps)
    except Exception as error:  # its database is away, or its configuration is wrong
        logger.debug("the apps of %s are not known: %s", site, error)
        return unknown
