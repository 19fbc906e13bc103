"""A sites folder without Frappe: sites, apps with hooks.py, a user and a database session."""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from types import MappingProxyType, ModuleType
from typing import Any

from sqlalchemy import inspect as inspect_mapping
from sqlalchemy import select
from sqlalchemy.orm import RelationshipDirection
from sqlalchemy.orm import Session as DatabaseSession
from sqlalchemy.orm import make_transient_to_detached

from frappe_jobs import methods
from frappe_jobs.arguments import Arguments, Codec
from frappe_jobs.config import Settings
from frappe_jobs.errors import (
    ArgumentError,
    ConfigError,
    DoesNotExistError,
    HostNotReady,
    MethodNotFound,
)
from frappe_jobs.hosts import database
from frappe_jobs.hosts.base import Host, Session
from frappe_jobs.hosts.document import Document, bind

logger = logging.getLogger(__name__)

#: What enqueue_doc sends; the host itself is found behind it.
RUN_DOC_METHOD = "frappe_jobs.run_doc_method"
DOC_METHOD_ARGUMENTS = {"doctype", "name", "doc_method"}

#: Frappe's own default for whoever opens a site without saying who he is.
ADMINISTRATOR = "Administrator"


class StandaloneSession(Session):
    """A site of the sites folder, open for a user."""

    def __init__(
        self, site: str, user: str, conf: Mapping[str, Any], session: DatabaseSession
    ) -> None:
        self.site, self.user, self.conf = site, user, conf
        self._db = session
        self._after_commit = database.AfterCommit(session)

    @property
    def db(self) -> DatabaseSession:
        return self._db

    def commit(self) -> None:
        self._db.commit()

    def rollback(self) -> None:
        self._db.rollback()

    def after_commit(self, call: Callable[[], Any]) -> None:
        self._after_commit.add(call)


class StandaloneHost(Host):
    """The host of a team without Frappe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engines: dict[str, Any] = {}
        self._current: ContextVar[StandaloneSession | None] = ContextVar("site", default=None)

    @cached_property
    def arguments(self) -> Arguments:  # type: ignore[override]
        is_document = lambda value: isinstance(value, Document)  # noqa: E731
        return Arguments([Codec("document", is_document, self._pack, self._unpack)])

    def current(self) -> StandaloneSession | None:
        return self._current.get()

    def require_current(self) -> StandaloneSession:
        """The open session; raises HostNotReady."""
        if session := self._current.get():
            return session
        raise HostNotReady()

    @contextmanager
    def session(
        self, site: str, user: str | None = None, session: Any = None
    ) -> Iterator[StandaloneSession]:
        conf = MappingProxyType(self._settings.site_config(site))
        own = None if session is not None else DatabaseSession(self._engine(site, conf))
        given = getattr(session, "sync_session", session)  # an AsyncSession has one inside
        opened = StandaloneSession(site, user or ADMINISTRATOR, conf, own or given)
        token = self._current.set(opened)
        try:
            yield opened
            if own:
                opened.commit()
        except BaseException:
            if own:
                opened.rollback()
            raise
        finally:
            self._current.reset(token)
            if own:
                own.close()

    def sites(self) -> Sequence[str]:
        return self._settings.sites()

    def preload(self) -> None:
        apps = dict.fromkeys(
            app for site in self.sites() for app in self._settings.installed_apps(site)
        )
        for name in (f"{app}.{module}" for app in apps for module in ("hooks", "tasks")):
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name != name or name.endswith(".hooks"):
                    logger.exception("%s cannot be imported", name)
            except Exception:  # an app's own code must not keep the worker from the other apps
                logger.exception("%s cannot be imported", name)

    def hooks(self, name: str, site: str) -> list[str]:
        found: list[str] = []
        for module in self._hooks_modules(site):
            value = getattr(module, name, [])
            paths = [value] if isinstance(value, str) else value
            if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
                raise ConfigError(
                    f"{module.__name__}: {name!r} must be a dotted path or a list of them; "
                    f"not {value!r}."
                )
            found += paths
        return found

    def method(self, path: str, site: str) -> Callable[..., Any]:
        if path == RUN_DOC_METHOD:
            return self.run_doc_method
        return methods.resolve(path, self._settings.installed_apps(site))

    def checked(self, path: str, arguments: Mapping[str, Any], site: str) -> Callable[..., Any]:
        method = super().checked(path, arguments, site)
        if path == RUN_DOC_METHOD:
            rest = {name: arguments[name] for name in arguments.keys() - DOC_METHOD_ARGUMENTS}
            doctype, doc_method = arguments["doctype"], arguments["doc_method"]
            function = self._method_of(self.document_class(doctype), doctype, doc_method)
            methods.check_arguments(
                functools.partial(function, None), f"{doctype}.{doc_method}", rest
            )
        return method

    def document_method(self, method: Callable[..., Any]) -> tuple[str, str, str] | None:
        document = getattr(method, "__self__", None)
        if not inspect.ismethod(method) or not isinstance(document, Document):
            return None
        name = _name_of(document)
        if name is None:
            raise ArgumentError(
                f"{document.doctype} has no name yet: insert it, then enqueue {method.__name__}."
            )
        return document.doctype, name, method.__name__

    def is_conflict(self, error: BaseException) -> bool:
        return database.is_conflict(error)

    def log_error(self, title: str, error: BaseException) -> None:
        logger.error("%s failed: %s", title, error, extra={"action": "job_error", "job": title})

    # --- documents

    def document_class(self, doctype: str) -> type[Any]:
        """The class that the site's apps name for that doctype in ``override_doctype_class``."""
        session = self.require_current()
        named: dict[str, str] = {}
        for module in self._hooks_modules(session.site):
            named |= getattr(module, "override_doctype_class", {})
        if doctype not in named:
            raise DoesNotExistError(
                f"No app of {session.site} names a class for {doctype!r} in "
                f"'override_doctype_class'; known: {', '.join(sorted(named)) or 'none'}."
            )
        found = methods.resolve(named[doctype], self._settings.installed_apps(session.site))
        if not isinstance(found, type) or inspect_mapping(found, raiseerr=False) is None:
            raise ConfigError(f"{named[doctype]} is no class that SQLAlchemy maps.")
        return found

    def get_doc(self, doctype: str, name: Any) -> Any:
        """The document of that name; raises DoesNotExistError."""
        session = self.require_current()
        document = session.db.get(self.document_class(doctype), name)
        if document is None:
            raise DoesNotExistError(f"{doctype} {name!r} does not exist on {session.site}.")
        return document

    def new_doc(self, doctype: str, values: Mapping[str, Any]) -> Any:
        """A document that is not stored yet."""
        document = self.document_class(doctype)(**values)
        if isinstance(document, Document):
            bind(document, self.require_current().db)
        return document

    def get_all(
        self,
        doctype: str,
        filters: Mapping[str, Any],
        fields: Sequence[str],
        order_by: str | None,
        limit: int | None,
    ) -> list[dict[str, Any]]:
        """The values of those fields of each document that equals the filters."""
        kind = self.document_class(doctype)
        known = inspect_mapping(kind).columns.keys()
        chosen = list(known) if list(fields) == ["*"] else list(fields)
        column, _, direction = (order_by or "").partition(" ")
        for field in (*chosen, *filters, *filter(None, [column])):
            if field not in known:
                raise ArgumentError(
                    f"{doctype} has no field {field!r}; it has: {', '.join(known)}."
                )
        query = select(*(getattr(kind, field) for field in chosen)).filter_by(**filters)
        if column:
            key = getattr(kind, column)
            query = query.order_by(key.desc() if direction.lower() == "desc" else key)
        rows = self.require_current().db.execute(query.limit(limit) if limit else query)
        return [dict(row._mapping) for row in rows]

    def run_doc_method(self, doctype: str, name: Any, doc_method: str, **kwargs: Any) -> Any:
        """Load the document and call its method: what enqueue_doc runs in the worker."""
        document = self.get_doc(doctype, name)
        return self._method_of(type(document), doctype, doc_method)(document, **kwargs)

    def _method_of(self, kind: type[Any], doctype: str, name: object) -> Callable[..., Any]:
        """The public method of that name which an app's class (or Document) defines."""
        found = getattr(kind, name, None) if isinstance(name, str) else None
        if not inspect.isfunction(found) or str(name).startswith("_"):
            raise MethodNotFound(f"{doctype} has no method {name!r}.")
        apps = self._settings.installed_apps(self.require_current().site)
        methods.require_origin(found, f"{doctype}.{name}", [*apps, "frappe_jobs"])
        return found

    def _pack(self, document: Document) -> dict[str, Any]:
        """A document's values, children and flags; what begins with ``_`` stays behind."""
        mapper = inspect_mapping(type(document))
        return {
            "doctype": document.doctype,
            "values": {
                name: getattr(document, name) for name in mapper.columns.keys() if name[0] != "_"
            },
            "children": {
                item.key: list(getattr(document, item.key))
                for item in mapper.relationships
                if item.direction is RelationshipDirection.ONETOMANY and item.uselist
            },
            "flags": {name: value for name, value in document.flags.items() if name[0] != "_"},
            "stored": not inspect_mapping(document).transient,
        }

    def _unpack(self, parts: dict[str, Any]) -> Document:
        document: Document = self.new_doc(parts["doctype"], {})
        known = inspect_mapping(type(document)).attrs.keys()
        for name, value in (parts["values"] | parts["children"]).items():
            if name not in known:
                raise ArgumentError(f"{parts['doctype']} has no field {name!r}.")
            setattr(document, name, value)
        document.flags.update(parts["flags"])
        if parts["stored"]:
            make_transient_to_detached(document)
        return document

    # --- apps and databases

    def _hooks_modules(self, site: str) -> list[ModuleType]:
        modules = []
        for app in self._settings.installed_apps(site):
            try:
                modules.append(importlib.import_module(f"{app}.hooks"))
            except ImportError as error:
                raise ConfigError(
                    f"App {app!r} of {site} cannot be used: importing {app}.hooks failed: {error}."
                ) from error
        return modules

    def _engine(self, site: str, conf: Mapping[str, Any]) -> Any:
        url = database.database_url(conf, self._settings.sites_path / site)
        if (engine := self._engines.get(site)) is None or engine.url != url:
            engine = self._engines[site] = database.make_engine(url)
        return engine


def _name_of(document: Document) -> Any:
    keys = inspect_mapping(type(document)).primary_key
    values = [getattr(document, column.key) for column in keys]
    return values[0] if len(values) == 1 else None
