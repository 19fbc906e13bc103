"""Frappe's verbs on a SQLAlchemy class, for the classes that an app names as its documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session, object_session

from frappe_jobs.errors import DoesNotExistError
from frappe_jobs.standalone.session import require_current


class Flags(dict[str, Any]):
    """A dict whose items are attributes, too; None for what is not set, as in Frappe."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class Document:
    """A mixin for mapped classes: ``class Order(Document, Base)``.

    Its primary key is its name.  ``insert``, ``save`` and ``delete`` write at once (a flush) in the
    session in which the document was read, else in the open site's; they count when the transaction
    commits.
    """

    @property
    def doctype(self) -> str:
        """The class's ``__doctype__``, else its name."""
        return str(getattr(type(self), "__doctype__", type(self).__name__))

    @property
    def flags(self) -> Flags:
        """What callers tell the document's methods; they travel with it, and are never stored."""
        flags: Flags = self.__dict__.setdefault("_flags", Flags())
        return flags

    def insert(self) -> Document:
        """Add it to the database; as ``save`` if it is stored already."""
        return self.save()

    def save(self) -> Document:
        """Write its values, whether it is new or not.

        Raises DoesNotExistError if it was read, or came with a job, and has since been deleted.
        """
        session = self._session()
        if inspect(self).transient:
            session.add(self)
        elif object_session(self) is None:  # it came with a job, without having been read
            self._stored(session)
            session.merge(self)
        session.flush()
        return self

    def update(self, values: Mapping[str, Any]) -> Document:
        """Set these fields; they are written by the next ``save``."""
        for name, value in values.items():
            setattr(self, name, value)
        return self

    def delete(self) -> None:
        """Remove it from the database; raises DoesNotExistError if it is not there."""
        session = self._session()
        session.delete(self if object_session(self) else self._stored(session))
        session.flush()

    def _session(self) -> Session:
        return object_session(self) or require_current().db

    def _stored(self, session: Session) -> Document:
        """The document as it is in the database."""
        mapper = inspect(type(self))
        key = mapper.primary_key_from_instance(self)
        stored = None if None in key else session.get(type(self), tuple(key))
        if stored is None:
            raise DoesNotExistError(f"{self.doctype} {key[0]!r} is not stored.")
        return stored
