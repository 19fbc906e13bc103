"""A job's id as this Frappe spells it: the site, a separator, and the caller's id."""

from __future__ import annotations

import re
from contextvars import Context
from functools import cache
from string import printable

import frappe
from frappe.utils import background_jobs

#: ``::`` or, later, ``||``; neither is in a site's name.
SEPARATOR = re.compile(r"::|\|\|")


def id_of(site: str, job_id: str) -> str:
    """The job's id, made by Frappe's own function."""
    return str(Context().run(_make, site, job_id))


def _make(site: str, job_id: str) -> str:
    """Called in a context of its own, so that the open site stays as it is."""
    frappe.local.site = site
    return str(background_jobs.create_job_id(job_id))


def site_and_id(name: str) -> tuple[str, str]:
    """The site and the caller's id in what ``id_of`` gives."""
    site, *rest = SEPARATOR.split(name, 1)
    return site, "".join(rest)


def spelled(job_id: str) -> str:
    """The caller's id as Frappe spells it: it may replace some characters."""
    if _keeps_ids(background_jobs.create_job_id):
        return job_id
    return site_and_id(id_of("site", job_id))[1]


@cache
def _keeps_ids(create_job_id: object) -> bool:
    """Whether that function of Frappe's keeps every character of an id."""
    return site_and_id(id_of("site", printable))[1] == printable
