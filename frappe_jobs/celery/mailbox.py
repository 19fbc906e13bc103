"""Control commands, as Flower and ``celery control`` send them: a bad command ends nothing.

kombu matches a worker's name with any expression that a command brings, and accepts any clock;
Celery reopens its channel after each command that raises, and logs a traceback.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.pidbox import Node

from frappe_jobs.errors import shortened

#: A message's clock counts messages; a larger number would not fit into RabbitMQ's headers.
CLOCK_LIMIT = 2**53

#: The commands after which a job that waits is not to run.
REVOKING = ("revoke", "terminate")

#: The parts of a command, and the types of each.
PARTS: dict[str, tuple[type, ...]] = {
    "method": (str,),
    "arguments": (dict, type(None)),
    "destination": (list, str, type(None)),
    "pattern": (str, type(None)),
    "matcher": (str, type(None)),
    "reply_to": (dict, type(None)),
    "ticket": (str, type(None)),
}


def fault_of(body: Any, headers: Any) -> str | None:
    """What is wrong with a control command; None if nothing is."""
    if not isinstance(body, dict):
        return f"is no control command: {type(body).__name__}"
    for name, kinds in PARTS.items():
        if not isinstance(body.get(name), kinds):
            return f"is no control command: its {name!r} is {shortened(body.get(name))}"
    if unknown := body.keys() - PARTS.keys():
        return f"is no control command: it has {shortened(sorted(map(str, unknown)))}"
    if body.get("matcher") == "pcre":
        return "is a control command for workers by a regular expression, which may take for ever"
    reply_to = body.get("reply_to") or {"exchange": "", "routing_key": ""}
    if not all(isinstance(reply_to.get(part), str) for part in ("exchange", "routing_key")):
        return f"is a control command whose reply goes nowhere: {shortened(reply_to)}"
    clock = headers.get("clock") if isinstance(headers, dict) else None
    if clock and (not isinstance(clock, int) or not 0 <= clock < CLOCK_LIMIT):
        return f"is a control command with an invalid clock: {shortened(clock)}"
    return None


def guard(app: Celery, consumer: Any) -> None:
    """Have the app's worker in this process keep aside what is no command; call it before.

    What Celery's ``revoke`` names is cancelled in its record: a worker forgets it when it ends.
    """

    def keep(fault: str, body: Any) -> None:
        consumer.kept_aside.keep("control", fault, body=body)

    class GuardedNode(Node):
        def handle_message(self, body: Any, message: Any = None) -> Any:
            headers = getattr(message, "headers", None)
            fault = fault_of(body, headers)
            try:
                if fault:
                    return keep(fault, body)
                return super().handle_message(body, message)  # type: ignore[no-untyped-call]
            except consumer.losses:
                raise
            except Exception as error:  # of the command, or of sending the answer
                keep(f"is a control command that failed: {type(error).__name__}: {error}", body)

        dispatch_from_message = handle_message

        def handle(self, method: str, arguments: Any = None) -> Any:
            """Do it, and give the answer; kombu would log a traceback for what fails."""
            try:
                answer = super().handle(method, arguments)  # type: ignore[no-untyped-call]
            except consumer.losses:
                raise
            except Exception as error:
                body = {"method": method, "arguments": arguments}
                keep(f"is a control command that failed: {type(error).__name__}: {error}", body)
                return {"error": repr(error)}
            if method in REVOKING:
                consumer.on_revoke(arguments["task_id"])
            return answer

    app.control.mailbox.node_cls = GuardedNode
