"""acme's documents."""

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from frappe_jobs import Document


class Base(DeclarativeBase):
    pass


class Account(Document, Base):
    __tablename__ = "account"

    name: Mapped[str] = mapped_column(String(140), primary_key=True)
    balance: Mapped[int] = mapped_column(default=0)

    def deposit(self, amount: int = 1) -> int:
        self.balance += amount
        self.save()
        return self.balance

    def _secret(self) -> None:
        raise AssertionError("a private method was run")


class SalesOrder(Document, Base):
    __tablename__ = "sales_order"
    __doctype__ = "Sales Order"

    name: Mapped[str] = mapped_column(String(140), primary_key=True)
    customer: Mapped[str] = mapped_column(String(140), default="")
    items: Mapped[list["SalesOrderItem"]] = relationship(order_by="SalesOrderItem.name")


class SalesOrderItem(Document, Base):
    __tablename__ = "sales_order_item"
    __doctype__ = "Sales Order Item"

    name: Mapped[str] = mapped_column(String(140), primary_key=True)
    order: Mapped[str] = mapped_column(ForeignKey("sales_order.name"))
    pieces: Mapped[int] = mapped_column(default=1)
