"""The Background Tasks of a site, with how far each is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from frappe_jobs import api
from frappe_jobs.web.pages.schedule import chosen_site
from frappe_jobs.web.view import Page, View

#: Records that are shown, the newest.
SHOWN = 50


def read(view: View) -> Mapping[str, Any]:
    site = chosen_site(view)
    tasks: list[dict[str, Any]] = []
    if site is not None:
        with api.site(site):
            tasks = api.get_recent_tasks(SHOWN)
    return {"site": site, "sites": view.sites, "tasks": tasks, "shown": SHOWN}


PAGE = Page("/tasks", "Background Tasks", "tasks.html", read)
