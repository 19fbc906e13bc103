"""Whether sites of the bench have the app: being in ``apps.txt`` alone switches nothing."""

from __future__ import annotations

import logging

import frappe

from frappe_jobs.frappe_bench.host.session import runtime

logger = logging.getLogger(__name__)

APP = "frappe_jobs"


def anywhere(*, but: str | None = None, unknown: bool) -> bool:
    """Whether a site, except ``but``, has it; ``unknown`` is the answer of an unreachable site."""
    others = (_has_it(site) for site in runtime().host.sites() if site != but)
    return any(unknown if has_it is None else has_it for has_it in others)


def by_site() -> dict[str, bool | None]:
    """Whether each site of the bench has it; None for a site that cannot be reached."""
    return {site: _has_it(site) for site in runtime().host.sites()}


def _has_it(site: str) -> bool | None:
    try:
        return APP in runtime().host.read(site, frappe.get_installed_apps)
    except Exception as error:  # its database is away, or its configuration is wrong
        logger.debug("the apps of %s are not known: %s", site, error)
        return None
