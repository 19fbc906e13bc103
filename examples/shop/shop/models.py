"""The shop's documents: plain SQLAlchemy classes with Frappe's verbs."""

from decimal import Decimal

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

import frappe_jobs as frappe
from frappe_jobs import Document


class Base(DeclarativeBase):
    pass


class Order(Document, Base):
    __tablename__ = "order"

    name: Mapped[str] = mapped_column(primary_key=True)
    customer: Mapped[str]
    total: Mapped[Decimal]
    status: Mapped[str] = mapped_column(default="Draft")
    items: Mapped[list["OrderItem"]] = relationship()

    def send_invoice(self, to: str = "") -> str:
        """A method of the document, for enqueue_doc and enqueue(order.send_invoice)."""
        self.status = "Invoiced"
        self.save()
        return f"{self.name}: {self.total:.2f} {frappe.conf.shop_currency} to {to or self.customer}"


class OrderItem(Document, Base):
    __tablename__ = "order_item"

    name: Mapped[int] = mapped_column(primary_key=True)
    order: Mapped[str] = mapped_column(ForeignKey("order.name"))
    article: Mapped[str]
    pieces: Mapped[int]


class Note(Document, Base):
    """What a job leaves behind: which site and user it ran for."""

    __tablename__ = "note"

    name: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    site: Mapped[str]
    user: Mapped[str]
