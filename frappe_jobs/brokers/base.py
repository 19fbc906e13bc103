"""The port of a broker, which carries the messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from frappe_jobs.errors import BrokerUnavailable
from frappe_jobs.message import Held, Message, Sending

#: The name in a worker's statistics of what ``Broker.workers`` gives.
PRESENCE = "frappe_jobs"


class Alarm(BrokerUnavailable):
    """It takes no messages: its memory or its disk is full."""


def refuse_while_blocked(_reason: str) -> None:
    """Raise Alarm: RabbitMQ has said that it reads no more from this connection.

    A caller that went on would wait for an answer until the alarm is over.
    """
    raise Alarm


@dataclass(frozen=True)
class OnlineWorker:
    """A worker that answers, as it describes itself."""

    name: str
    #: The bench's queues that it serves.
    queues: Sequence[str]
    processes: int
    #: Seconds by which its clock is ahead of ours; negative: behind; 0 if that cannot be told.
    ahead: float
    #: When it began, by our clock; None if it does not say so.
    since: float | None = None
    #: The versions of its apps' code, by app, as ``alive.code`` names them.
    code: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BrokerServer:
    """A broker's server, as it describes itself: "RabbitMQ 3.10.8"."""

    name: str
    #: Why it takes no messages now, in its own words; None as a rule.
    alarm: str | None = None


class Recorder(Protocol):
    """Keeps the records of the messages: the ledger."""

    def record(self, sendings: Sequence[Sending]) -> Sequence[int]:
        """Write the records of these sendings, in order, and push what is to be pushed.

        Gives a ``Recorded`` for each: if it is false the message is not sent, nor if it is DELAYED,
        nor if it is KNOWN and in an outbox, from which another process has then sent it.
        """

    def record_each(self, chunks: Iterable[Sequence[Sending]]) -> Iterator[Sequence[int]]:
        """The same with many, a chunk after another; a chunk is read when it is needed."""

    def sent(self, messages: Sequence[Message]) -> None:
        """Note that the broker has these messages."""


class Broker(ABC):
    """A broker, as the bench that owns the queues on it sees it."""

    #: Whether it can be asked which messages it still has, and can remove single messages.
    is_searchable: bool

    @abstractmethod
    def publish(self, sendings: Sequence[Sending], recorder: Recorder) -> list[bool]:
        """Record the messages, then hand them to the broker, in order, in as few round trips.

        False for each that the recorder refused.  Raises BrokerUnavailable or NotSupportedByBroker,
        with the messages that the broker has in ``details["sent"]``; of the others there may be
        records that say that the job waits.
        """

    @abstractmethod
    def send_again(self, messages: Sequence[Message]) -> None:
        """Hand messages to the broker that already have records; raises BrokerUnavailable."""

    def push(self, message: Message) -> tuple[str, str, str] | None:
        """A list in the ledger's Redis, what pushed there is that message, and the list's bell.

        None if the message is sent only by ``send_again``.
        """
        return None

    @abstractmethod
    def send_for_later(self, messages: Iterable[tuple[Message, float]]) -> None:
        """Hand messages to the broker that a worker is to keep until then, in Celery's own way.

        For workers that do not know where else jobs wait; raises BrokerUnavailable.
        """

    @abstractmethod
    def lost(self, messages: Sequence[Message]) -> list[Message]:
        """The messages of these that the broker no longer has, neither waiting nor at a worker.

        None of them if it cannot tell.  A message that a worker is about to take, or has just let
        go of, may seem to be lost.
        """

    def broken_promises(self, message: Message) -> list[str]:
        """What of this message's options cannot be kept, in words; [] as a rule."""
        return []

    def to_be_told(self, message: Message) -> list[str]:
        """What whoever sends this message is to be told in words; [] as a rule."""
        return self.broken_promises(message)

    def unfair(self, queues: Iterable[str]) -> str | None:
        """In which of these queues sites take no turns, as workers other than ours serve them.

        None if there is none, or where sites never take turns.
        """
        return None

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

    def held(self, token: str, name: str, *, is_ahead: bool) -> Held | None:
        """How a message that came from the queue of that name on the broker is held (Redis)."""
        return None

    @abstractmethod
    def depth(self, queue: str) -> int:
        """How many messages wait in that queue, at the front or not."""

    def file(self, queues: Iterable[str]) -> None:
        """Have the sites whose messages wait in these queues' inboxes take turns (Redis)."""
        return

    def file_back(self) -> int:
        """Put all messages that wait for their sites' turns back into the inboxes; gives how many.

        There any Celery worker finds them; a worker of ours would file them again.
        """
        return 0

    def why_no_pause(self, *, of_site: bool) -> str | None:
        """Why a queue, or a site, cannot be paused; None if it can."""
        return "A site cannot be paused on this broker, only whole queues." if of_site else None

    def held_back(self, queue: str, *, is_paused: bool) -> int:
        """How many of the queue's waiting messages no worker takes, as they are paused."""
        return self.depth(queue) if is_paused else 0

    def pause_ended(self, queues: Iterable[str]) -> None:
        """Have workers take at once what has waited for the end of a pause."""
        return

    @abstractmethod
    def discard(self, messages: Sequence[Message]) -> set[str]:
        """Remove waiting messages, in one pass over each queue; gives the ids of those removed.

        The others are already with a worker, or this broker cannot be searched.
        """

    @abstractmethod
    def forget(self) -> None:
        """Delete the bench's queues with their messages; raises BrokerUnavailable."""

    @abstractmethod
    def stop(self, message: Message) -> None:
        """Kill the process that runs this message, wherever it is; its worker goes on."""

    @abstractmethod
    def server(self) -> BrokerServer:
        """What server it is; raises BrokerUnavailable, also if it is silent for some seconds."""

    @abstractmethod
    def workers(self) -> list[OnlineWorker]:
        """The workers online that serve the bench's queues; takes about a second."""

    @abstractmethod
    def served(self) -> set[str]:
        """The queues of any bench that online workers serve, by their names on the broker.

        Takes about a second.
        """

    def consumers(self) -> dict[str, int]:
        """How many processes of online workers serve each queue."""
        counts: Counter[str] = Counter()
        for worker in self.workers():
            counts.update(dict.fromkeys(worker.queues, worker.processes))
        return counts
