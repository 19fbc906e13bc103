"""A site's done markers in its own database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from itertools import count

from sqlalchemy import Engine, delete, insert, select
from sqlalchemy.exc import IntegrityError

from frappe_jobs.host.done_markers import AlreadyDone, DoneMarker, DoneMarkers
from frappe_jobs.host.session import Session
from frappe_jobs.standalone.models import DONE_MARKERS
from frappe_jobs.standalone.records import has_tables, need_tables
from frappe_jobs.standalone.sqlite import BLIND

MESSAGE_ID, DONE_AT = DONE_MARKERS.c.message_id, DONE_MARKERS.c.done_at

#: Rows deleted in one transaction.
CHUNK = 1_000


class SiteDoneMarkers(DoneMarkers):
    """Reads and writes them; ``engine_of`` gives a site's own database."""

    def __init__(self, engine_of: Callable[[str], Engine]) -> None:
        self._engine_of = engine_of

    def add(self, session: Session, marker: DoneMarker) -> None:
        need_tables(session.db)
        now = datetime.now(timezone.utc)
        row = insert(DONE_MARKERS).values(
            message_id=marker.message_id, run=marker.run, result=marker.result, done_at=now
        )
        try:
            session.db.execute(row.execution_options(**{BLIND: True}))
        except IntegrityError:
            raise AlreadyDone from None

    def find(self, session: Session, message_id: str) -> DoneMarker | None:
        need_tables(session.db)
        try:
            row = session.db.execute(
                select(MESSAGE_ID, DONE_MARKERS.c.run, DONE_MARKERS.c.result).where(
                    MESSAGE_ID == message_id
                )
            ).first()
            return DoneMarker(*row) if row else None
        finally:
            session.rollback()

    def clear(self, site: str, before: datetime) -> int:
        engine = self._engine_of(site)
        if not has_tables(engine):
            return 0
        old = select(MESSAGE_ID).where(DONE_AT < before).order_by(DONE_AT).limit(CHUNK)
        for gone in count(step=CHUNK):
            with engine.begin() as connection:
                if ids := [*connection.scalars(old)]:
                    connection.execute(delete(DONE_MARKERS).where(MESSAGE_ID.in_(ids)))
            if len(ids) < CHUNK:
                return gone + len(ids)
        return 0
