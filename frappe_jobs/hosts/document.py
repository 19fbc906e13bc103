"""Frappe's verbs on a SQLAlchemy class, for the classes that an app names as its documents."""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session, object_session

from frappe_jobs.errors import HostNotReady


class Document:
    """A mixin for mapped classes: ``class Order(Document, Base)``.

    Its primary key is its name.  ``insert``, ``save`` and ``delete`` write at once (a flush) and
    count when the transaction commits.
    """

    @property
    def doctype(self) -> str:
        return str(getattr(type(self), "__doctype__", type(self).__name__))

    @property
    def flags(self) -> dict[str, Any]:
        """What callers tell the document's methods; travels with it, is never stored."""
        flags: dict[str, Any] = self.__dict__.setdefault("_flags", {})
        return flags

    def insert(self) -> Document:
        """Add it to the database."""
        session = self._open_session()
        session.add(self)
        session.flush()
        return self

    def save(self) -> Document:
        """Write its values, whether it is new or not."""
        session = self._open_session()
        if inspect(self).transient:
            return self.insert()
        if object_session(self) is None:  # it came with a job, without having been read
            session.merge(self)
        session.flush()
        return self

    def delete(self) -> None:
        """Remove it from the database."""
        session = self._open_session()
        session.delete(self if object_session(self) is session else session.merge(self))
        session.flush()

    def _open_session(self) -> Session:
        session = object_session(self) or self.__dict__.get("_session")
        if session is None:
            raise HostNotReady("The document belongs to no open site: make it with new_doc().")
        return session


def bind(document: Document, session: Session) -> None:
    """Tell a document that is not stored yet which session its verbs mean."""
    document.__dict__["_session"] = session
