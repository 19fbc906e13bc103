"""The documents of a site: the classes that its apps name, and how they travel with a job."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import inspect as inspect_mapping
from sqlalchemy import select
from sqlalchemy.orm import (
    Mapper,
    RelationshipDirection,
    RelationshipProperty,
    make_transient_to_detached,
    object_session,
)
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.collections import collection_adapter
from sqlalchemy.orm.exc import DetachedInstanceError

from frappe_jobs import methods
from frappe_jobs.arguments import Codec
from frappe_jobs.errors import (
    ArgumentError,
    ConfigError,
    DoesNotExistError,
    JobNotSerializable,
    MethodNotFound,
)
from frappe_jobs.host.documents import Documents
from frappe_jobs.standalone.apps import Apps
from frappe_jobs.standalone.background_task import BackgroundTask
from frappe_jobs.standalone.document import Document
from frappe_jobs.standalone.models import SiteRecord
from frappe_jobs.standalone.records import RECORDS, need_tables
from frappe_jobs.standalone.session import current, require_current

CLASSES = "override_doctype_class"
#: Has SQLAlchemy's ``get`` read what is there now, and lock it.
LOCKED = {"with_for_update": True, "populate_existing": True}


class SiteDocuments(Documents):
    """Frappe's functions on the open site's documents."""

    def __init__(self, apps: Apps) -> None:
        self._apps = apps

    def get_doc(self, doctype: str, name: Any, *, for_update: bool = False) -> Any:
        """The document of that name, or the first whose fields equal those of a dict.

        ``for_update``: as it is now, and locked.  Raises DoesNotExistError.
        """
        document = self._get(doctype, name, for_update)
        if isinstance(document, BackgroundTask):
            document.look()
        return document

    def _get(self, doctype: str, name: Any, for_update: bool = False) -> Any:
        session = require_current()
        kind = self._stored_class(doctype)
        if for_update:
            session.db.flush()  # reading would overwrite what was set and not saved
        if isinstance(name, Mapping):
            _check_fields(doctype, kind, name)
            query = select(kind).filter_by(**name).limit(1)
            if for_update:
                query = query.with_for_update().execution_options(populate_existing=True)
            document = session.db.scalar(query)
        else:
            options: Any = LOCKED if for_update else {}
            document = None if name is None else session.db.get(kind, name, **options)
        if document is None:
            raise DoesNotExistError(f"{doctype} {name!r} does not exist on {session.site}.")
        return document

    def new_doc(self, doctype: str, values: Mapping[str, Any]) -> Any:
        return self._stored_class(doctype)(**values)

    def get_all(
        self,
        doctype: str,
        filters: Mapping[str, Any],
        fields: Sequence[str],
        order_by: str | None,
        limit: int | None,
    ) -> list[dict[str, Any]]:
        session = require_current()
        kind = self._stored_class(doctype)
        chosen = [fields] if isinstance(fields, str) else list(fields)
        chosen = list(inspect_mapping(kind).columns.keys()) if chosen == ["*"] else chosen
        column, _, direction = (order_by or "").strip().partition(" ")
        _check_fields(doctype, kind, (*chosen, *filters, *filter(None, [column])))
        query = select(*(getattr(kind, field) for field in chosen)).filter_by(**filters)
        if direction.strip().lower() not in ("", "asc", "desc"):
            raise ArgumentError(f"order_by is a field, then 'asc' or 'desc'; not {order_by!r}.")
        if column:
            key = getattr(kind, column)
            query = query.order_by(key.desc() if direction.strip().lower() == "desc" else key)
        rows = session.db.execute(query.limit(limit) if limit else query)
        return [dict(zip(chosen, row)) for row in rows]

    # --- their methods as jobs

    def run_method(self, doctype: str, name: Any, doc_method: str, **kwargs: Any) -> Any:
        """Load the document and call its method: what enqueue_doc runs in the worker."""
        document = self._get(doctype, name)
        return self._method(type(document), doctype, doc_method)(document, **kwargs)

    def check_method(self, arguments: Mapping[str, Any], site: str) -> None:
        """Raise MethodNotFound, MethodNotAllowed or ArgumentError if run_method would."""
        rest = dict(arguments)
        doctype, _name, doc_method = (rest.pop(key) for key in ("doctype", "name", "doc_method"))
        method = self._method(self._class(doctype, site), doctype, doc_method)
        methods.check_arguments(functools.partial(method, None), f"{doctype}.{doc_method}", rest)

    def bound_to(self, method: Callable[..., Any]) -> tuple[str, Any, str] | None:
        """Doctype, name and method's name if it is bound to a document, else None."""
        document = getattr(method, "__self__", None)
        if not inspect.ismethod(method) or not isinstance(document, Document):
            return None
        key = inspect_mapping(type(document)).primary_key_from_instance(document)
        if None in key:
            raise ArgumentError(
                f"{document.doctype} has no name yet: insert it, then enqueue {method.__name__}."
            )
        return document.doctype, key[0] if len(key) == 1 else tuple(key), method.__name__

    def _method(self, kind: type[Any], doctype: str, name: object) -> Callable[..., Any]:
        """The public method of that name, as an app's class (or Document) defines it."""
        found = inspect.getattr_static(kind, name, None) if isinstance(name, str) else None
        if not inspect.isfunction(found) or str(name).startswith("_"):
            raise MethodNotFound(f"{doctype} has no method {name!r}.")
        apps = self._apps.installed(require_current().site)
        methods.require_origin(found, f"{doctype}.{name}", [*apps, "frappe_jobs"])
        return found

    def _stored_class(self, doctype: str) -> type[Any]:
        """The class of that doctype on the open site; makes the tables of our own records."""
        session = require_current()
        kind = self._class(doctype, session.site)
        if issubclass(kind, SiteRecord):
            need_tables(session.db)
        return kind

    def _class(self, doctype: str, site: str) -> type[Any]:
        """The class that the site's apps name for that doctype."""
        named = self._apps.table(CLASSES, site)
        if doctype in RECORDS and doctype not in named:
            return RECORDS[doctype]
        if doctype not in named:
            raise DoesNotExistError(
                f"No app of {site} names a class for {doctype!r} in {CLASSES!r}; "
                f"known: {', '.join(sorted({*named, *RECORDS}))}."
            )
        found = methods.resolve(named[doctype], self._apps.installed(site))
        if not isinstance(found, type) or inspect_mapping(found, raiseerr=False) is None:
            raise ConfigError(f"{named[doctype]} is no class that SQLAlchemy maps.")
        return found

    # --- as arguments of a job

    @property
    def codec(self) -> Codec:
        return Codec(
            "document", lambda value: isinstance(value, Document), self._pack, self._unpack
        )

    def _pack(self, document: Document) -> dict[str, Any]:
        """A document's values, children and flags; names that begin with ``_`` are left out."""
        site, doctype = require_current().site, document.doctype
        self._class(doctype, site)  # an error is the caller's, not the worker's
        mapper, state = inspect_mapping(type(document)), inspect_mapping(document)
        if state.pending and (session := object_session(document)):
            session.flush()  # its defaults, and often its name, are the database's
        try:
            values = {name: getattr(document, name) for name in _public(mapper.columns.keys())}
            children = {
                item.key: [*collection_adapter(getattr(document, item.key))]
                for item in _children(mapper)
            }
        except DetachedInstanceError:
            raise JobNotSerializable(
                f"{doctype} was read in a site that is closed by now, and not wholly: read it "
                "again where you enqueue, or send its name."
            ) from None
        return {
            "site": site, "doctype": doctype, "values": values, "children": children,
            "flags": {name: document.flags[name] for name in _public(document.flags)},
            "stored": state.has_identity,
        }  # fmt: skip

    def _unpack(self, parts: dict[str, Any]) -> Document:
        doctype, session = parts["doctype"], current()
        # A job's arguments and result are also read where no site is open.
        kind = self._class(doctype, session.site if session else parts["site"])
        mapper = inspect_mapping(kind)
        document: Document = mapper.class_manager.new_instance()
        children = [item.key for item in _children(mapper)]
        if unknown := [*parts["values"].keys() - mapper.columns.keys()]:
            raise ArgumentError(f"{doctype} has no field {unknown[0]!r}.")
        if unknown := [*parts["children"].keys() - children]:
            raise ArgumentError(f"{doctype} has no children {unknown[0]!r}.")
        for name, value in parts["values"].items():
            set_committed_value(document, name, value)  # as if read: the sender has validated it
        for name, value in parts["children"].items():
            collection = collection_adapter(getattr(document, name))
            for child in value:
                collection.append_with_event(child)
        document.flags.update(parts["flags"])
        if parts["stored"]:
            if None in mapper.primary_key_from_instance(document):
                raise ArgumentError(f"{doctype} is stored, and has no name.")
            make_transient_to_detached(document)
        return document


def _check_fields(doctype: str, kind: type[Any], fields: Iterable[str]) -> None:
    known = inspect_mapping(kind).columns.keys()
    for field in fields:
        if field not in known:
            raise ArgumentError(f"{doctype} has no field {field!r}; it has: {', '.join(known)}.")


def _public(names: Any) -> list[str]:
    return [name for name in names if not name.startswith("_")]


def _children(mapper: Mapper[Any]) -> list[RelationshipProperty[Any]]:
    """The relationships whose rows belong to the document, and can be read whole."""
    return [
        item
        for item in mapper.relationships
        if item.direction is RelationshipDirection.ONETOMANY
        and item.uselist
        and not item.viewonly
        and item.lazy not in ("dynamic", "write_only", "noload")
        and not item.key.startswith("_")
    ]
