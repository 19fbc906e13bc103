"""What a record keeps of the texts that a job has left: only so much of each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from frappe_jobs.ledger.keys import BenchRedis
from frappe_jobs.texts.error_text import bounded, safe


class Fields(BenchRedis):
    """Writes the fields of records."""

    @cached_property
    def longest(self) -> Mapping[str, int]:
        """So many characters are kept of these texts."""
        settings = self._settings
        return {
            "reason": settings.max_reason, "stage": settings.max_reason,
            "error": settings.max_reason, "traceback": settings.max_traceback,
            "result": settings.max_result,
        }  # fmt: skip

    def kept(self, name: str, text: str) -> str:
        """What is kept of the text in that field; a result is JSON, and was bounded before."""
        return safe(text if name == "result" else bounded(text, self.longest[name]))

    def _kept(self, fields: Mapping[str, str]) -> dict[str, str]:
        return {
            name: self.kept(name, text) if name in self.longest else text
            for name, text in fields.items()
        }
