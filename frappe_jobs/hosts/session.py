"""A site that is open here, in this thread or async task, and its database session."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy.orm import Session as DatabaseSession

from frappe_jobs.errors import HostNotReady
from frappe_jobs.hosts.after_commit import AfterCommit
from frappe_jobs.hosts.base import Session
from frappe_jobs.hosts.database import inherited

logger = logging.getLogger(__name__)


class StandaloneSession(Session):
    """A site of the sites folder, open for a user."""

    def __init__(self, site: str, user: str, conf: Mapping[str, Any], db: DatabaseSession) -> None:
        self.site, self.user, self.conf = site, user, conf
        self._db = db
        self._pid = os.getpid()
        self._is_closed = False

    @property
    def db(self) -> DatabaseSession:
        return self._db

    @property
    def is_inherited(self) -> bool:
        """Whether this process is a fork of the one that opened it, and must keep its hands off."""
        return self._pid != os.getpid()

    @property
    def is_usable(self) -> bool:
        return not self._is_closed and not self.is_inherited

    def commit(self) -> None:
        self._db.commit()

    def rollback(self) -> None:
        self._db.rollback()

    def after_commit(self, call: Callable[[], Any]) -> None:
        AfterCommit.of(self._db).add(call)

    @contextmanager
    def as_current(self) -> Iterator[None]:
        """Be the current session, and afterwards nobody's, whatever task still holds it."""
        token = _current.set(self)
        try:
            yield
        finally:
            self._is_closed = True
            _current.reset(token)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit on a clean exit, roll back on an exception, and close the connection."""
        db = self._db
        try:
            yield
            db.expire_on_commit = False  # so that documents can be read after the site is closed
            while db.in_transaction():  # once more for what the calls after it began
                db.commit()
        except BaseException:
            try:
                db.rollback()
            except Exception:  # the connection is lost, and with it the transaction
                logger.warning("%s could not be rolled back", self.site, exc_info=True)
            raise
        finally:
            db.close()
            db.bind = None  # whoever kept it must not open what nobody closes


_current: ContextVar[StandaloneSession | None] = ContextVar("session", default=None)


def current() -> StandaloneSession | None:
    """The session that is open here; None outside of one, and in a fork of the process."""
    session = _current.get()
    return session if session and session.is_usable else None


def require_current() -> StandaloneSession:
    """The session that is open here; raises HostNotReady."""
    if session := current():
        return session
    raise inherited() if (last := _current.get()) and last.is_inherited else HostNotReady()
