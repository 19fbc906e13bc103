"""The shop's jobs."""

import time

from celery import shared_task
from shop.models import Base

import frappe_jobs as frappe


def install() -> int:
    """Make the site's tables and some orders."""
    Base.metadata.create_all(frappe.db.get_bind())
    for number in range(1, 4):
        frappe.new_doc("Order", name=f"ORD-{number}", customer="Grete", total=number * 100).insert()
    return number


def note(text: str) -> None:
    """Write down who ran what, and where."""
    frappe.new_doc("Note", text=text, site=frappe.local.site, user=frappe.session.user).insert()


def confirm_order(order: str) -> str:
    doc = frappe.get_doc("Order", order)
    doc.status = "Confirmed"
    doc.save()
    note(f"confirmed {order}")
    return doc.status


def count_stock(articles: list, urgent: bool = False) -> dict:
    note(f"counted {len(articles)}")
    return {article: len(article) for article in articles}


def sales_report(orders: int = 5) -> int:
    """A longer one, which says how far it is."""
    for number in range(orders):
        frappe.publish_progress(100 * number / orders, stage=f"order {number + 1}")
        time.sleep(0.2)
    frappe.publish_progress(100, stage="done")
    return orders


def pack(parcel: str, seconds: float = 0.0) -> str:
    time.sleep(seconds)
    note(f"packed {parcel}")
    return parcel


def charge_card(order: str) -> None:
    note(f"charged {order}")  # rolled back with the failure
    raise ValueError(f"the card of {order} was refused")


def wait_for_bank(seconds: int) -> None:
    time.sleep(seconds)


def check_stock() -> None:
    """By the clock, every ``scheduler_interval`` seconds."""


def close_day() -> None:
    """By the clock, once a day."""


def remind() -> None:
    """By the clock, as a record in the database says."""


def rush() -> None:
    """By the clock, every second: what a busy shop has done, and now and then a card is refused."""
    second = int(time.time())
    frappe.enqueue(pack, "short", parcel=f"P-{second}", seconds=second % 4 / 5)
    frappe.enqueue(count_stock, articles=["ink", "paper"][: second % 3])
    if second % 3 == 0:
        frappe.enqueue(pack, "long", job_name="Pack a pallet", parcel=f"PAL-{second}", seconds=2.5)
    if second % 8 == 0:
        frappe.enqueue(sales_report, "reports", track_job=True, orders=30)
    if second % 20 == 0:
        frappe.enqueue(charge_card, order=f"ORD-{1 + second % 3}")


def tell_success(job, connection, result) -> None:
    note(f"success of {job.name}")


def tell_failure(job, connection, type, value, traceback) -> None:
    note(f"failure of {job.name}")


def note_start(method: str, kwargs: dict, transaction_type: str) -> None:
    """The app's before_job hook."""


def note_end(method: str, kwargs: dict, result) -> None:
    """The app's after_job hook."""


@shared_task
def newsletter(issue: int) -> str:
    """A task that the team had on Celery before."""
    return f"newsletter {issue} sent"
