"""What the pages of ``frappe-jobs web`` show, in the Desk: of the open site, and of no other.

Frappe's own process answers, each time a browser asks; it holds no connection open.  The readers,
the templates and the actions are those of the pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import frappe
from frappe.utils import escape_html
from jinja2 import Environment

from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.frappe_bench.host.host import in_thread
from frappe_jobs.frappe_bench.host.session import runtime
from frappe_jobs.runtime import Runtime
from frappe_jobs.web.access import ADMIN, Person
from frappe_jobs.web.actions import ACTIONS, noted
from frappe_jobs.web.audit import Audit
from frappe_jobs.web.bench_picture import BenchPicture
from frappe_jobs.web.looks import STATIC, make_environment
from frappe_jobs.web.pages import PAGES
from frappe_jobs.web.runs import Runs
from frappe_jobs.web.view import NOT_HERE, NotHere, View

SYSTEM_MANAGER = "System Manager"


@frappe.whitelist(methods=["POST"])  # type: ignore[untyped-decorator]
def look(page: str, query: str = "") -> dict[str, Any]:
    """A page as it is now: its title and its HTML, or why there is none."""
    view = _view(query)
    shown = next((one for one in PAGES if one.path == page and one.is_for(view.person)), None)
    if shown is None:
        return {"trouble": NOT_HERE}
    menu = [(one.path, one.title) for one in PAGES if one.in_menu and one.is_for(view.person)]
    try:  # in a thread: readers and actions open the site by themselves
        values = {"heading": ""} | dict(in_thread(lambda: shown.read(view)))
    except NotHere:
        return {"trouble": NOT_HERE, "menu": menu}
    except FrappeJobsError as error:
        return {"trouble": str(error), "menu": menu}
    template = _parts(view.here).environment.get_template(shown.template)
    html = template.render(page=shown, person=view.person, token="", **values)
    return {
        "title": values["heading"] or shown.title, "html": html, "menu": menu, "pace": shown.pace,
        "is_still": not shown.live or bool(values.get("is_still")),
    }  # fmt: skip


@frappe.whitelist(methods=["POST"])  # type: ignore[untyped-decorator]
def act(name: str, form: str) -> dict[str, str]:
    """Do what a form of a page asks for; gives what to say of it, and where to go on.

    It is noted in the audit before it is done.
    """
    view, address = _view(form), str(frappe.local.request_ip or "?")
    try:
        if name not in ACTIONS:
            raise NotHere
        done = in_thread(lambda: noted(view, name, address))
    except NotHere:
        frappe.throw(NOT_HERE, frappe.DoesNotExistError)
    except FrappeJobsError as error:
        frappe.throw(escape_html(str(error)))
    return {"said": done.said, "to": done.to}


@frappe.whitelist(methods=["POST"])  # type: ignore[untyped-decorator]
def style() -> str:
    """The pages' style sheet."""
    frappe.only_for(SYSTEM_MANAGER)
    return (STATIC / "pages.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Parts:
    """What is kept between two requests."""

    environment: Environment
    picture: BenchPicture
    audit: Audit
    runs: Runs


@lru_cache(maxsize=4)
def _parts(here: Runtime) -> Parts:
    keys: dict[str, Any] = {"is_searchable": here.broker.is_searchable}
    return Parts(
        make_environment(), BenchPicture(here), Audit(here.in_force, **keys),
        Runs(here.in_force, **keys),
    )  # fmt: skip


def _view(query: str) -> View:
    """What a System Manager of the open site sees: a site that the browser names counts nothing.

    Raises Frappe's PermissionError for everybody else.
    """
    frappe.only_for(SYSTEM_MANAGER)
    here = runtime()
    parts = _parts(here)
    person = Person(str(frappe.session.user), ADMIN, frozenset([frappe.local.site]))
    pairs = [pair for pair in parse_qsl(query, max_num_fields=100) if pair[0] != "site"]
    return View(here, parts.picture, parts.audit, parts.runs, person, pairs, desk="/app")
