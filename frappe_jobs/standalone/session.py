"""A site that is open here, in this thread or async task, and its database session."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session as DatabaseSession

from frappe_jobs.background_task.for_users import BackgroundTasks
from frappe_jobs.config import Settings
from frappe_jobs.errors import HostNotReady
from frappe_jobs.host.session import Keeper, Session
from frappe_jobs.standalone.after_commit import AfterCommit
from frappe_jobs.standalone.database import inherited, watch_writes
from frappe_jobs.standalone.sqlite import wait_for_turn

logger = logging.getLogger(__name__)

#: The key in a database session's ``info`` of the StandaloneSession that it is open for.
KEY = "frappe_jobs_session"


class StandaloneSession(Session):
    """A site of the sites folder, open for a user."""

    def __init__(
        self,
        site: str,
        user: str,
        conf: Mapping[str, Any],
        settings: Settings,
        open_db: Callable[[], DatabaseSession],
        schedule_changed: Callable[[str], None] = lambda site: None,
        background_tasks: Callable[[], BackgroundTasks] | None = None,
    ) -> None:
        self._background_tasks = background_tasks
        #: Called with the site's name after a commit that changed its schedule's records.
        self.schedule_changed = schedule_changed
        self.site, self.user, self.conf, self.settings = site, user, conf, settings
        self.apps = settings.sites.installed_apps(site)
        self._open_db = open_db  # many jobs never use their database
        self._db: DatabaseSession | None = None
        #: Whose database session it is besides: a caller's own may be handed in again.
        self._outer: StandaloneSession | None = None
        self._has_written = False
        self._pid = os.getpid()
        self._is_closed = False

    @property
    def db(self) -> DatabaseSession:
        if self._db is None:
            db = self._db = self._open_db()
            self._outer = db.info.get(KEY)
            db.info[KEY] = self
        return self._db

    def is_of(self, db: DatabaseSession) -> bool:
        """Whether that is its database session."""
        return self._db is db

    def begun(self, connection: Connection) -> None:
        """Called when a transaction of its database session has begun."""
        self.was_connected = True
        watch_writes(connection, self._note_write)
        if self.writes_first:
            wait_for_turn(connection)

    def _note_write(self) -> None:
        self._has_written = True

    @property
    def background_tasks(self) -> BackgroundTasks:
        """What users do with tracked jobs; raises HostNotReady if nothing can be sent here."""
        if self._background_tasks is None:
            raise HostNotReady("Tracked jobs need a bench: open the site with frappe_jobs.site().")
        return self._background_tasks()

    @property
    def is_inherited(self) -> bool:
        """Whether this process is a fork of the one that opened it, and must not use it."""
        return self._pid != os.getpid()

    @property
    def is_usable(self) -> bool:
        return not self._is_closed and not self.is_inherited

    def commit(self, mark: Callable[[], object] | None = None) -> None:
        if self._db is None:
            return
        if mark:  # after all other listeners, who may write as well
            event.listen(self._db, "before_commit", partial(self._mark, mark), once=True)
        self._db.commit()

    def _mark(self, mark: Callable[[], object], db: DatabaseSession) -> None:
        db.flush()
        if self._has_written:
            mark()

    def rollback(self) -> None:
        try:
            if self._db:
                self._db.rollback()
        except DBAPIError:  # the connection is lost, and with it the transaction
            logger.warning("%s could not be rolled back", self.site, exc_info=True)

    def forget_what_was_read(self) -> None:
        self.db.expire_all()

    def after_commit(self, call: Callable[[], Any]) -> None:
        AfterCommit.of(self.db).add(call)

    def wait_for_commit(self, keeper: Keeper, thing: Any) -> None:
        AfterCommit.of(self.db).keep(keeper, thing)

    @contextmanager
    def as_current(self) -> Iterator[None]:
        """Be the current session; afterwards it is closed for all tasks that still hold it."""
        token = _current.set(self)
        try:
            yield
        finally:
            self._is_closed = True
            if self._db:
                self._db.info[KEY] = self._outer
            _current.reset(token)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit on a clean exit, roll back on an exception, and close the connection."""
        try:
            yield
            if db := self._db:
                db.expire_on_commit = False  # so that documents can be read after it is closed
                while db.in_transaction():  # again if calls after the commit began a transaction
                    db.commit()
        except BaseException:
            self.rollback()
            raise
        finally:
            # Code that still holds it must not open a connection that nobody closes.
            self._open_db = DatabaseSession
            if db := self._db:
                db.close()
                db.bind = None


def _begun(db: DatabaseSession, _transaction: object, connection: Connection) -> None:
    opened = db.info.get(KEY)
    if opened and opened.is_of(db):  # info may be a copy
        opened.begun(connection)


event.listen(DatabaseSession, "after_begin", _begun)


_current: ContextVar[StandaloneSession | None] = ContextVar("session", default=None)


def current() -> StandaloneSession | None:
    """The session that is open here; None outside a session, and in a fork of its process."""
    session = _current.get()
    return session if session and session.is_usable else None


def require_current() -> StandaloneSession:
    """The session that is open here; raises HostNotReady."""
    if session := current():
        return session
    raise inherited() if (last := _current.get()) and last.is_inherited else HostNotReady()
