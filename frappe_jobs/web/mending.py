"""What the doctor can mend without risk to any job."""

from __future__ import annotations

from frappe_jobs.rows.findings import findings
from frappe_jobs.web.view import NotHere, View


def mend(view: View) -> str:
    """As ``frappe-jobs doctor --fix``; raises NotHere for who sees only some sites."""
    if not view.person.sees_all:
        raise NotHere
    found = findings(view.here, fix=True)
    view.picture.findings.forget()
    done = [one.what for one in found if one.what.startswith("Mended: ")]
    return " ".join(done) or "There was nothing that could be mended."
