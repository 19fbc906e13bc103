"""A site's done markers in its own database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Engine, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from frappe_jobs.host.done_markers import AlreadyDone, DoneMarker, DoneMarkers
from frappe_jobs.host.session import Session
from frappe_jobs.standalone.models import DONE_MARKERS
from frappe_jobs.standalone.records import has_tables, need_tables
from frappe_jobs.standalone.sqlite import BLIND

NAME, DONE_AT = DONE_MARKERS.c.name, DONE_MARKERS.c.done_at

#: Made once, as that takes longer than to execute it.  Blind: what is written does not depend on
#: what was read.
ADD: Any = insert(DONE_MARKERS).execution_options(**{BLIND: True})
MOVE: Any = (
    update(DONE_MARKERS)
    .where(NAME == bindparam("old_name"), DONE_MARKERS.c.result == bindparam("old_result"))
    .values({name: bindparam(name) for name in ("run", "result", "done_at")})
    .execution_options(**{BLIND: True})
)


class SiteDoneMarkers(DoneMarkers):
    """Reads and writes them; ``engine_of`` gives a site's own database."""

    def __init__(self, engine_of: Callable[[str], Engine]) -> None:
        self._engine_of = engine_of

    def put(self, session: Session, marker: DoneMarker, before: DoneMarker | None = None) -> None:
        need_tables(session.db)
        values = {"run": marker.run, "result": marker.result, "done_at": datetime.now(timezone.utc)}
        statement: Any = ADD
        if before:
            statement = MOVE
            values |= {"old_name": before.name, "old_result": before.result}
        else:
            values["name"] = marker.name
        try:
            if session.db.execute(statement, values).rowcount == 0:
                raise AlreadyDone
        except IntegrityError:
            raise AlreadyDone from None

    def look(self, session: Session, name: str) -> DoneMarker | None:
        need_tables(session.db)
        columns = select(NAME, DONE_MARKERS.c.run, DONE_MARKERS.c.result)
        row = session.db.execute(columns.where(NAME == name)).first()
        return DoneMarker(*row) if row else None

    def clear_some(self, site: str, before: datetime, limit: int) -> int:
        engine = self._engine_of(site)
        if not has_tables(engine):
            return 0
        old = select(NAME).where(DONE_AT < before).order_by(DONE_AT).limit(limit)
        with engine.begin() as connection:
            if ids := [*connection.scalars(old)]:
                connection.execute(delete(DONE_MARKERS).where(NAME.in_(ids)))
        return len(ids)
