"""What a user's editor knows of enqueue; a line with an error ends with "# wrong"."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from typing_extensions import assert_type

import frappe_jobs as frappe


class Order(frappe.Document):
    def send_invoice(self, to: str) -> str:
        return to


def pack(parcel: str, weight: int = 1) -> float:
    return weight


def clean_up() -> None:
    pass


@frappe.register
def greet(name: str) -> str:
    return name


async def fetch(url: str) -> bytes:
    return url.encode()


def right(order: Order, later: bool, when: datetime) -> None:
    assert_type(frappe.enqueue(pack, parcel="vase"), frappe.Job[float])
    assert_type(frappe.enqueue(pack, "long", 300, parcel="vase", weight=2), frappe.Job[float])
    assert_type(frappe.enqueue(pack, queue="long", parcel="vase", retry=3), frappe.Job[float])
    assert_type(frappe.enqueue(pack, parcel="vase").wait(), float)
    assert_type(frappe.enqueue(pack, parcel="vase").wait(timeout=1.5), float)
    assert_type(frappe.enqueue(pack, parcel="vase").result, "float | None")
    assert_type(frappe.enqueue(pack, parcel="vase").requeue(), frappe.Job[float])
    assert_type(frappe.enqueue(pack, parcel="vase", track_job=True), frappe.Job[float])
    assert_type(frappe.enqueue(pack, parcel="vase", on_failure=clean_up), frappe.Job[float])
    assert_type(frappe.enqueue(clean_up), frappe.Job[None])
    assert_type(frappe.enqueue(greet, name="Ada"), frappe.Job[str])
    assert_type(greet("Ada"), str)
    assert_type(frappe.enqueue(order.send_invoice, to="Grete"), frappe.Job[str])

    assert_type(frappe.enqueue(pack, parcel="vase", now=True), float)
    assert_type(frappe.enqueue(pack, parcel="vase", is_async=False), float)
    assert_type(frappe.enqueue(pack, parcel="vase", now=later), Any)
    once = frappe.enqueue(pack, parcel="vase", job_id="pack vase", deduplicate=True)
    assert_type(once, "frappe.Job[float] | None")
    assert_type(frappe.enqueue("shop.tasks.pack", "long", parcel="vase"), frappe.Job[Any])
    assert_type(frappe.enqueue("shop.tasks.pack", parcel="vase", now=True), Any)
    assert_type(frappe.enqueue_doc("Order", "ORD-1", "send_invoice", to="Ada"), frappe.Job[Any])
    assert_type(frappe.get_job("pack vase"), "frappe.Job[Any] | None")
    assert_type(frappe.step("pack", pack, "vase"), float)
    assert_type([*frappe.resume([1, 2])], list[int])

    assert_type(frappe.enqueue_at(when, pack, parcel="vase"), frappe.Job[float])
    assert_type(frappe.enqueue_in(60, pack, "long", 300, parcel="vase"), frappe.Job[float])
    assert_type(frappe.enqueue_in(timedelta(days=1), greet, name="Ada").wait(), str)
    assert_type(frappe.enqueue_in(60.5, order.send_invoice, to="Grete"), frappe.Job[str])
    assert_type(frappe.enqueue_in(60, pack, parcel="vase", expires=timedelta(1)), frappe.Job[float])
    assert_type(frappe.enqueue_at(when, "shop.tasks.pack", parcel="vase"), frappe.Job[Any])
    assert_type(frappe.enqueue_in(60, pack, parcel="vase", enqueue_after_commit=later), Any)
    later_once = frappe.enqueue_in(60, pack, parcel="vase", job_id="pack", deduplicate=True)
    assert_type(later_once, "frappe.Job[float] | None")
    frappe.enqueue_at(when, pack, parcel="vase", enqueue_after_commit=True)

    job: frappe.Job = frappe.enqueue(pack, parcel="vase")
    assert_type(job.wait(), Any)
    assert_type(frappe.local.site, "str | None")
    with frappe.site("site1", user="grete@shop.test"):
        frappe.enqueue(pack, parcel="vase", enqueue_after_commit=True)


def wrong(order: Order) -> None:
    frappe.enqueue(pack, parcle="vase")  # wrong
    frappe.enqueue(pack)  # wrong
    frappe.enqueue(pack, parcel=3)  # wrong
    frappe.enqueue(pack, "long", parcel="vase", colour="blue")  # wrong
    frappe.enqueue(pack, parcel="vase", colour="blue", enqueue_after_commit=True)  # wrong
    frappe.enqueue(pack, colour="blue", now=True)  # wrong
    frappe.enqueue(clean_up, parcel="vase")  # wrong
    frappe.enqueue(greet, title="Ada")  # wrong
    frappe.enqueue(order.send_invoice, too="Grete")  # wrong
    frappe.enqueue(pack, parcel="vase", queue=3)  # wrong
    frappe.enqueue(pack, parcel="vase", retry="twice")  # wrong
    frappe.enqueue(3)  # wrong
    number: int = frappe.enqueue(greet, name="Ada").wait()  # wrong
    after = frappe.enqueue(pack, parcel="vase", enqueue_after_commit=True)
    after.wait()  # wrong
    once = frappe.enqueue(pack, parcel="vase", job_id="pack vase", deduplicate=True)
    once.wait()  # wrong
    frappe.enqueue_in(60, pack, parcle="vase")  # wrong
    frappe.enqueue_in("1h", pack, parcel="vase")  # wrong
    frappe.enqueue_at(60, pack, parcel="vase")  # wrong
    frappe.enqueue_in(60, pack, parcel=3)  # wrong
    frappe.enqueue_in(60, pack, parcel="vase", now=True)  # wrong
    frappe.enqueue(pack, parcel="vase", expires="1h")  # wrong
    in_a_minute = frappe.enqueue_in(60, pack, parcel="vase", enqueue_after_commit=True)
    in_a_minute.wait()  # wrong
    frappe.enqeue(pack, parcel="vase")  # wrong
    print(number, after)
