"""What is open here: ``local.site``, ``session.user``, ``conf``, ``db``, as Frappe names them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from frappe_jobs import runtime
from frappe_jobs.host.session import Session


def require_session() -> Session:
    """The session that is open in this thread or async task; raises HostNotReady."""
    return runtime.current().host.require_current()


class Local:
    """``local.site``: the name of the open site, or None."""

    @property
    def site(self) -> str | None:
        session = runtime.current().host.current()
        return session.site if session else None


class User:
    """``session.user``: the user for whom the site is open, or None."""

    @property
    def user(self) -> str | None:
        session = runtime.current().host.current()
        return session.user if session else None


class Conf(Mapping[str, Any]):
    """``conf``: the open site's configuration, over that of the bench; also ``conf.db_type``."""

    def __getitem__(self, key: str) -> Any:
        return require_session().conf[key]

    def __iter__(self) -> Iterator[str]:
        return iter(require_session().conf)

    def __len__(self) -> int:
        return len(require_session().conf)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        return require_session().conf.get(key)


class Database:
    """``db``: the open site's SQLAlchemy session."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(require_session().db, name)


local, session, conf, db = Local(), User(), Conf(), Database()
