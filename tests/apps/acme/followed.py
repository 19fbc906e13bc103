"""Jobs that their users follow: each works with its own Background Task."""

from acme.models import Account

import frappe_jobs as frappe


def import_orders(account: str, count: int = 1) -> None:
    """Say how far it is, and store what came of it."""
    task = frappe.get_current_task()
    task.update_stage("counting")
    task.publish_progress(40)
    seen = (task.status, task.progress, task.stage)
    frappe.new_doc("Account", name=account, balance=count).insert()
    task.store_result({"imported": count, "seen": seen})


def store_and_return(result: object) -> object:
    frappe.get_current_task().store_result("stored")
    return result


def store_and_fail() -> None:
    frappe.get_current_task().store_result("of no use")
    raise KeyError("failed")


def attach() -> None:
    frappe.get_current_task().attach_file("orders.csv", b"1,2,3")


def whose() -> list:
    """What the task that runs here is."""
    task = frappe.get_current_task()
    return [task.task_id, task.task_name, task.ref_docname, task.user] if task else [None]


def speak_for(task_id: str) -> None:
    frappe.get_doc("Background Task", task_id).publish_progress(50)


def fail_first(error: str) -> str:
    if frappe.get_current_job().attempt == 1:
        raise {"key": KeyError("one"), "value": ValueError("one")}[error]
    return "at last"


# --- callbacks


def tell(**known: object) -> None:
    """Of all that there is: in an account's name."""
    task = known.pop("task")
    shown = {key: str(value) for key, value in sorted(known.items())}
    _note(f"{task.task_name}: {task.status} {shown}")


def tell_result(result: object) -> None:
    _note(f"result {result}")


def tell_exception(exception: BaseException, text: str) -> None:
    _note(f"{exception!r} of {text}")


def write_and_fail() -> None:
    _note("of no use")
    raise ValueError("the callback's own")


def _note(text: str) -> None:
    frappe.db.add(Account(name=text))
