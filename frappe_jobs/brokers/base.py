"""The port to what carries the messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from frappe_jobs.errors import BrokerUnavailable
from frappe_jobs.message import Message, Sending

#: Under this name a worker says of itself what a broker's ``workers`` gives.
PRESENCE = "frappe_jobs"


class Alarm(BrokerUnavailable):
    """It takes no messages: its memory or its disk is full."""


def refuse_while_blocked(_reason: str) -> None:
    """Raise Alarm, where RabbitMQ says to who sends that it reads nothing more of it.

    Who went on would wait for an answer until the alarm is over.
    """
    raise Alarm


@dataclass(frozen=True)
class OnlineWorker:
    """A worker that answers, as it describes itself."""

    name: str
    #: Those of the bench that it serves.
    queues: Sequence[str]
    processes: int
    #: Seconds by which its clock is ahead of ours; negative: behind; 0 where nobody can tell.
    ahead: float


@dataclass(frozen=True)
class BrokerServer:
    """What carries the messages, as it describes itself: "RabbitMQ 3.10.8"."""

    name: str
    #: Why it takes no messages now, in its own words; None as a rule.
    alarm: str | None = None


class Recorder(Protocol):
    """What keeps the records of the messages: the ledger."""

    def record(self, sendings: Sequence[Sending]) -> Sequence[int]:
        """Write the records of these sendings, in order, and push what is to be pushed.

        Gives for each what became of it, a ``Recorded``: it is not sent where that is false, nor if
        it was KNOWN and is in an outbox, as somebody else has sent it from there.
        """

    def sent(self, messages: Sequence[Message]) -> None:
        """Note that the broker has these messages."""


class Broker(ABC):
    """One broker, as seen by the bench that owns the queues on it."""

    #: Whether it can be asked which messages it still has, and let go of one of them.
    is_searchable: bool

    @abstractmethod
    def publish(self, sendings: Sequence[Sending], recorder: Recorder) -> list[bool]:
        """Record the messages, then hand them to the broker, in order, in as few round trips.

        False for each that the recorder did not let pass.  Raises BrokerUnavailable or
        NotSupportedByBroker, whose details hold under ``sent`` the messages that the broker has;
        the records of the others may be there without one, and say that the job waits.
        """

    @abstractmethod
    def send_again(self, messages: Sequence[Message]) -> None:
        """Hand messages to the broker whose records are there; raises BrokerUnavailable."""

    @abstractmethod
    def lost(self, messages: Sequence[Message]) -> list[Message]:
        """Those of these messages that the broker has no longer, neither waiting nor at a worker.

        None of them where it cannot tell.  One that a worker is about to take, or has just let go
        of, may seem to be lost.
        """

    def broken_promises(self, message: Message) -> list[str]:
        """What cannot be kept of what this message asks for, in words; [] as a rule."""
        return []

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
    def queue_name(self, queue: str) -> str:
        """The name on the broker of that queue of the bench."""

    @abstractmethod
    def depth(self, queue: str) -> int:
        """How many messages wait in that queue, at the front or not."""

    @abstractmethod
    def discard(self, messages: Sequence[Message]) -> set[str]:
        """Take waiting messages away, in one pass over each queue; gives the ids of those it took.

        The others are with a worker already, or this broker cannot be searched.
        """

    @abstractmethod
    def forget(self) -> None:
        """Delete the bench's queues, with what waits there; raises BrokerUnavailable."""

    @abstractmethod
    def stop(self, message: Message) -> None:
        """Kill the process that runs this message, wherever it is; its worker goes on."""

    @abstractmethod
    def server(self) -> BrokerServer:
        """Ask it what it is; raises BrokerUnavailable, also if it is silent for some seconds."""

    @abstractmethod
    def workers(self) -> list[OnlineWorker]:
        """The workers online that serve the bench's queues; takes about a second."""

    @abstractmethod
    def served(self) -> set[str]:
        """The queues that workers online serve, of whichever bench, by their names on the broker.

        Takes about a second.
        """

    def consumers(self) -> dict[str, int]:
        """How many processes of the workers online serve each queue of theirs."""
        counts: Counter[str] = Counter()
        for worker in self.workers():
            counts.update(dict.fromkeys(worker.queues, worker.processes))
        return counts
