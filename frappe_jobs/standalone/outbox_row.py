"""The table of the jobs that wait for a commit, on a site without Frappe."""

from __future__ import annotations

from sqlalchemy import Boolean, Double, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from frappe_jobs.standalone.models import LONG_TEXT, Base


class OutboxRow(Base):
    """A job of a transaction; fields as in ``host.outbox.Row``."""

    __tablename__ = "frappe_jobs_outbox"
    __table_args__ = (
        Index("frappe_jobs_outbox_by_time", "written_at", "message_id"),
        {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"},  # which has transactions
    )

    message_id: Mapped[str] = mapped_column(String(140), primary_key=True)
    note: Mapped[str] = mapped_column(String(40))
    bench_id: Mapped[str]
    site: Mapped[str]
    message: Mapped[str] = mapped_column(LONG_TEXT)
    claim: Mapped[bool] = mapped_column(Boolean)
    written_at: Mapped[float] = mapped_column(Double)
