"""The site that Frappe itself has open here, through our port, and the runtime of its bench."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import frappe

from frappe_jobs.errors import HostNotReady
from frappe_jobs.frappe_bench.host import at_commit, joined
from frappe_jobs.frappe_bench.host.database import is_out_of_reach
from frappe_jobs.host.session import Keeper, Session
from frappe_jobs.runtime import Runtime, of_sites_path
from frappe_jobs.texts.sql import writes

_folders: dict[str, Path] = {}


def runtime() -> Runtime:
    """The runtime of the sites folder that Frappe works on here."""
    folder = str(getattr(frappe.local, "sites_path", None) or os.environ.get("SITES_PATH") or ".")
    if folder not in _folders:
        _folders[folder] = Path(folder).resolve()
    return of_sites_path(_folders[folder])


def is_open() -> bool:
    """Whether Frappe has a site open in this thread or async task."""
    return bool(getattr(frappe.local, "initialised", None) and getattr(frappe.local, "site", None))


class BenchSession(Session):
    """A view of ``frappe.local``: it says what is open when it is asked."""

    _has_lost_one = False
    _has_written = False
    _watched: Any = None

    @property
    def site(self) -> str:  # type: ignore[override]
        return str(frappe.local.site)

    @property
    def user(self) -> str:  # type: ignore[override]
        return str(frappe.local.session.user)

    @property
    def conf(self) -> Mapping[str, Any]:  # type: ignore[override]
        conf: Mapping[str, Any] = frappe.local.conf
        return conf

    @property
    def db(self) -> Any:
        """Frappe's own; raises HostNotReady if none is open."""
        db = getattr(frappe.local, "db", None)
        if db is None:
            raise HostNotReady()
        return db

    @property
    def was_connected(self) -> bool:  # type: ignore[override]
        return self._has_lost_one or self._is_connected

    @property
    def _is_connected(self) -> bool:
        return self.db._conn is not None

    def watch_writes(self) -> None:
        """Note from now on whether a statement may write; Frappe's own count ends at a commit."""
        db = self._watched = self.db
        check = db.check_transaction_status

        def note_and_check(query: str, *more: Any, **named: Any) -> Any:  # 17 gives its kind, too
            self._has_written = self._has_written or writes(query)
            return check(query, *more, **named)

        db.check_transaction_status = note_and_check

    def _mark(self, mark: Callable[[], object]) -> None:
        if self._has_written or self.db is not self._watched:  # a connection of the job's own
            mark()

    def commit(self, mark: Callable[[], object] | None = None) -> None:
        """As Frappe does; if nothing has used the database, it is not connected for this."""
        if mark:  # after all other callbacks, which may write as well
            self.db.before_commit.add(partial(self._mark, mark))
        if not self._is_connected:
            self.db.before_commit.run()
        if self._is_connected:
            self.db.commit()
        else:
            self.db.after_commit.run()

    def rollback(self) -> None:
        """As Frappe does; if the connection is lost, the next statement connects anew."""
        try:
            if self._is_connected:
                self.db.rollback()
                return
        except Exception as error:
            if not is_out_of_reach(error):
                raise
            self._has_lost_one = True
            self.db.close()
        for waiting in (self.db.before_commit, self.db.after_commit):
            waiting.reset()
        self.db.after_rollback.run()

    def after_commit(self, call: Callable[[], Any]) -> None:
        self.db.after_commit.add(call)

    def wait_for_commit(self, keeper: Keeper, thing: Any) -> None:
        at_commit.wait(self.db, keeper, thing)

    def forget_what_was_read(self) -> None:
        joined.forget_what_was_read()

    @property
    def is_dirty(self) -> bool:
        """Whether a commit would do anything."""
        waiting = (self.db.before_commit, self.db.after_commit)
        return bool(self.db.transaction_writes or any(calls._functions for calls in waiting))
