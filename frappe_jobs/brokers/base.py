"""The port to what carries the messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

from frappe_jobs.message import Message


class Recorder(Protocol):
    """Writes the message's record; False if its job's id was taken, so that nothing may be sent."""

    def __call__(self, *, push: tuple[str, str] | None = None) -> bool:
        """``push``: a list of the ledger's Redis and a text to put there in the same step."""


class Broker(ABC):
    """One broker, as seen by the bench that owns the queues on it."""

    @abstractmethod
    def publish(self, message: Message, record: Recorder) -> bool:
        """Record the message, then hand it to the broker; True once the broker has it.

        False, and nothing sent, if ``record`` said so.  Raises BrokerUnavailable; the record may
        then be there without a message, and says that the job waits.
        """

    @abstractmethod
    def send_task(
        self,
        task: Any,
        arguments: Mapping[str, Any],
        *,
        queue: str | None,
        at_front: bool,
        time_limits: tuple[int, int] | None,
    ) -> Any:
        """Send a Celery task as itself; gives Celery's AsyncResult.

        Without a queue its own app's routes decide.  The limits are seconds, soft and hard.
        """

    @abstractmethod
    def depth(self, queue: str) -> int:
        """How many messages wait in that queue, at the front or not."""

    @abstractmethod
    def discard(self, message: Message) -> bool:
        """Take a waiting message away; False if the broker cannot, or it is no longer there."""

    @abstractmethod
    def stop(self, message: Message) -> None:
        """Kill the process that runs this message, wherever it is; its worker goes on."""

    @abstractmethod
    def consumers(self) -> dict[str, int]:
        """How many processes of the workers online serve each queue."""
