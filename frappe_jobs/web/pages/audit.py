"""Who did what on these pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from frappe_jobs.web.access import ADMIN
from frappe_jobs.web.audit import KEPT
from frappe_jobs.web.view import Page, View

#: Entries that are shown.
SHOWN = 200


def read(view: View) -> Mapping[str, Any]:
    """Who sees only some sites is shown what was done there, and nothing else."""
    deeds = [
        deed for deed in view.audit.latest(KEPT)
        if view.person.sees_all or (deed.site and view.person.sees(deed.site))
    ]  # fmt: skip
    return {"deeds": deeds[:SHOWN], "count": len(deeds), "kept": KEPT}


PAGE = Page("/audit", "Audit", "audit.html", read, role=ADMIN, pace=10.0)
