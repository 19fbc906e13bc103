"""All that the doctor finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from frappe_jobs.web.view import Page, View


def read(view: View) -> Mapping[str, Any]:
    answer = view.picture.findings.latest()
    found = answer.value or []
    return {
        "answer": answer,
        "counts": Counter(one.level for one in found),
        "mendable": [one for one in found if getattr(one, "mendable", False)],
    }


PAGE = Page("/doctor", "Doctor", "doctor.html", read, whole_bench=True)
