"""Where a doctype's class comes from; there are no doctypes here."""

from __future__ import annotations


def get_controller(doctype: str) -> type:
    raise ImportError(doctype)


class BaseDocument:
    """What all documents are."""
