"""Frappe's word to the browsers; there are none here."""

from __future__ import annotations

from typing import Any


def publish_progress(*args: Any, **kwargs: Any) -> None:
    """Nobody looks."""
