"""What a record keeps of the texts that a job leaves: each up to a length."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from frappe_jobs.ledger.keys import BenchRedis
from frappe_jobs.texts.error_text import bounded, safe


class Fields(BenchRedis):
    """Writes the fields of records."""

    @cached_property
    def longest(self) -> Mapping[str, int]:
        """How many characters of each of these texts are kept."""
        settings = self._settings
        return {
            "reason": settings.max_reason, "stage": settings.max_reason,
            "error": settings.max_reason, "traceback": settings.max_traceback,
            "result": settings.max_result,
        }  # fmt: skip

    def kept(self, name: str, text: str) -> str:
        """The part of the field's text that is kept; a result, as JSON, was bounded before."""
        return safe(text if name == "result" else bounded(text, self.longest[name]))

    def _kept(self, fields: Mapping[str, str]) -> dict[str, str]:
        return {
            name: self.kept(name, text) if name in self.longest else text
            for name, text in fields.items()
        }
