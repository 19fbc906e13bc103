"""What every broker does with Celery's own producer."""

from __future__ import annotations

import math
import socket
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from itertools import compress
from typing import Any

import redis
from amqp import exceptions as amqp
from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import ChannelError, OperationalError
from kombu.serialization import prepare_accept_content, registry

from frappe_jobs.brokers.base import PRESENCE, Alarm, Broker, BrokerServer, OnlineWorker, Recorder
from frappe_jobs.brokers.control import Control
from frappe_jobs.brokers.queues import queues
from frappe_jobs.errors import ArgumentError, BrokerError, BrokerUnavailable, NotSupportedByBroker
from frappe_jobs.message import HEADER, TASK, Message, Recorded, Sending
from frappe_jobs.servers.clock import ahead
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.servers.refusals import as_ours
from frappe_jobs.servers.sockets import CONNECT_POLICY, IDLE
from frappe_jobs.servers.unreached import unreached
from frappe_jobs.texts.masking import masked
from frappe_jobs.tracing import going_on, headers_of

#: How Celery retries to reach a broker before it gives up; about a second in all.
RETRY_POLICY = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5}

#: Seconds within which a broker must answer a question.
QUESTION_TIMEOUT = 2.0

#: What helps if a team's workers break a promise.
LET_OURS = "let a worker of ours (frappe-jobs worker) serve the queue"


class KombuBroker(Broker):
    """A broker through a Celery app's connections; Redis and RabbitMQ say what differs."""

    #: The priorities of Celery's messages: at the front, and all others.
    at_front: int
    ordinary: int
    #: How many messages are recorded, then sent, at a time.
    together = 100

    def __init__(self, app: Celery, settings: SettingsInForce) -> None:
        self._app = app
        self._settings = settings
        #: By name on the broker; a team's own app need not know them.
        self._queues = {queue.name: queue for queue in queues(settings)}

    def publish(self, sendings: Sequence[Sending], recorder: Recorder) -> list[bool]:
        # Record first, message second: a record without a message can be found and mended, but a
        # message without a record could run an unknown job.
        if all(sending.at is not None for sending in sendings):  # which needs no broker
            return [*map(bool, recorder.record(sendings))]
        allowed: list[bool] = []
        sent: list[Message] = []
        try:
            with self._producer() as producer:
                # In chunks, so that no record is without its message for long.
                for start in range(0, len(sendings), self.together):
                    chunk = sendings[start : start + self.together]
                    recorded = recorder.record(chunk)
                    allowed += map(bool, recorded)
                    todo = map(_is_to_be_sent, chunk, recorded)
                    self._send_all(compress(chunk, todo), producer, sent, recorder)
        except BrokerError as error:
            raise error.about(sent=sent) from None
        return allowed

    def _send_all(
        self, sendings: Iterable[Sending], producer: Any, sent: list[Message], recorder: Recorder
    ) -> None:
        before = len(sent)
        try:
            for sending in sendings:
                self._send(sending.message, producer)
                sent.append(sending.message)
        finally:
            recorder.sent(sent[before:])

    def send_again(self, messages: Sequence[Message]) -> None:
        with self._producer() as producer:
            for message in messages:
                with going_on(message):
                    self._send(message, producer)

    def send_for_later(self, messages: Iterable[tuple[Message, float]]) -> None:
        with self._producer() as producer:
            for message, at in messages:
                with going_on(message):
                    self._send(message, producer, eta=datetime.fromtimestamp(at, timezone.utc))

    def _send(self, message: Message, producer: Any, **options: Any) -> None:
        """Send it Celery's own way, which its listeners see: signals, OpenTelemetry, Sentry."""
        self._app.tasks[TASK].apply_async(
            args=(message.arguments,), producer=producer, **self.options(message) | options
        )

    def options(self, message: Message) -> dict[str, Any]:
        """Celery's options for a message of ours."""
        return {
            "task_id": message.id,
            "queue": self._queues[self.queue_name(message.queue)],
            "priority": self.at_front if message.at_front else self.ordinary,
            "shadow": message.name,
            "soft_time_limit": message.timeout,
            "time_limit": message.timeout + self._settings.timeout_grace,
            "headers": {HEADER: message.header()} | headers_of(message),
            "ignore_result": self._settings.keeps_results,  # then Celery need not keep it
            # The arguments as text cost more than the rest of the message, and may hold secrets.
            "argsrepr": "",
            "kwargsrepr": "",
            "retry_policy": RETRY_POLICY,
        }

    def send_task(
        self,
        task: Any,
        arguments: Mapping[str, Any],
        *,
        queue: str | None,
        at_front: bool,
        time_limits: tuple[int, int] | None,
    ) -> Any:
        options: dict[str, Any] = {"retry_policy": RETRY_POLICY}
        if at_front or queue is not None:  # Celery 5.6 would not use the app's default priority
            options["priority"] = self.at_front if at_front else self.ordinary
        if time_limits:
            options["soft_time_limit"], options["time_limit"] = time_limits
        if queue is not None or not self._settings.is_guest:
            _refuse_what_workers_refuse(task, self._app)
        if queue is not None:
            options["queue"] = self._queues[self.queue_name(queue)]
            options["serializer"] = task.serializer
        with self._producer() as producer:
            send = task.apply_async if queue is None else partial(self._app.send_task, task.name)
            return send(kwargs=dict(arguments), producer=producer, **options)

    def broken_promises(self, message: Message) -> list[str]:
        """A team's own app keeps its settings; on our own workers every promise holds."""
        if not self._settings.is_guest:
            return []
        conf, broken = self._app.conf, []
        options = conf.broker_transport_options
        if message.at_front and conf.worker_prefetch_multiplier != 1:
            broken.append(
                f"{message.name} goes to the front, but the team's workers hold "
                f"{conf.worker_prefetch_multiplier} jobs for each process, which run before it "
                f"(worker_prefetch_multiplier): {LET_OURS}, or set it to 1."
            )
        if message.at_front and len(options.get("priority_steps", (0, 1))) < 2:
            broken.append(
                f"{message.name} cannot go to the front: the app's 'priority_steps' has only one "
                "priority."
            )
        return broken

    def depth(self, queue: str) -> int:
        with self._channel() as channel:
            try:
                declared = channel.queue_declare(self.queue_name(queue), passive=True)
            except ChannelError:  # it was not declared yet, or (Redis) is empty
                return 0
            return int(declared.message_count)

    def stop(self, message: Message) -> None:
        with self._connection(**CONNECT_POLICY) as connection:
            # A worker's processes ignore SIGTERM, which may be sent to their whole group.
            Control(self._app).revoke(
                message.id, terminate=True, signal="SIGKILL", connection=connection
            )

    def server(self) -> BrokerServer:
        with self._connection(max_retries=1, timeout=QUESTION_TIMEOUT) as asked:
            return self._server(asked)

    @abstractmethod
    def _server(self, connection: Any) -> BrokerServer:
        """The server at that connection of kombu's."""

    def workers(self) -> list[OnlineWorker]:
        asked = time.time()
        seen = (self._online(name, said, asked, at) for name, said, at in self._answers())
        return [worker for worker in seen if worker.queues]

    def served(self) -> set[str]:
        presences = (said.get(PRESENCE) or {} for _, said, _ in self._answers())
        return {queue for presence in presences for queue in presence.get("queues", ())}

    def _answers(self) -> list[tuple[str, Any, float]]:
        """The statistics of each worker of any bench: (name, statistics, when they came)."""
        replies: list[tuple[str, Any, float]] = []

        def note(reply: dict[str, Any]) -> None:
            replies.extend((name, said, time.time()) for name, said in reply.items())

        with self._connection(**CONNECT_POLICY) as connection:
            Control(self._app).broadcast(
                "stats", reply=True, timeout=1, callback=note, connection=connection
            )
        return replies

    def _online(self, name: str, said: Any, asked: float, answered: float) -> OnlineWorker:
        presence = said.get(PRESENCE) or {}
        ours = {self.queue_name(queue): queue for queue in self._settings.queues}
        return OnlineWorker(
            name,
            queues=[ours[queue] for queue in presence.get("queues", ()) if queue in ours],
            processes=said.get("pool", {}).get("max-concurrency", 1),
            ahead=ahead(presence.get("time", asked), asked=asked, answered=answered),
            since=answered - said["uptime"] if "uptime" in said else None,
            code=presence.get("code") or {},
        )

    def queue_name(self, queue: str) -> str:
        """The queue's name on the broker; it carries the bench's id, as Frappe's does."""
        return f"{self._settings.bench_id}:{queue}"

    def forget(self) -> None:
        with self._channel() as channel:
            for queue in self._queues.values():
                bound = self._bound(queue, channel)
                bound.delete()
                bound.exchange.delete()

    def _bound(self, queue: Queue, channel: Any) -> Any:
        return queue(channel)

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        """A channel of kombu's; raises BrokerUnavailable within a second if the broker is down."""
        with self._connection(**CONNECT_POLICY) as connection:
            yield connection.default_channel

    @contextmanager
    def _producer(self) -> Iterator[Any]:
        """Celery's own producer from its pool; its connection was just used, or is made anew."""
        with self._reaching(), self._app.producer_or_acquire() as producer:
            connection = producer.connection
            if time.monotonic() - getattr(connection, "used_at", math.inf) > IDLE:
                connection.collect()
            try:
                yield producer
            except Alarm:  # it would not read that we close the connection, either
                connection.collect()
                raise
            finally:
                connection.used_at = time.monotonic()

    @contextmanager
    def _connection(self, **policy: Any) -> Iterator[Any]:
        """A connection for a question; each answer comes in time, or is an error."""
        with self._reaching():
            connection = self._app.connection_for_write(
                connect_timeout=QUESTION_TIMEOUT, transport_options=self.limits
            )
            try:
                connection.ensure_connection(**policy)
                yield connection
            except BaseException:
                connection.collect()  # without a goodbye, which the server may not read
                raise
            connection.release()

    #: kombu's transport options that keep a question from waiting for ever.
    limits: Mapping[str, Any] = {}

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn a broker's and kombu's own errors into ours."""
        url = self._settings.broker_url
        where = f"The broker {masked(url)}"
        try:
            yield
        except Alarm as error:
            raise BrokerUnavailable(f"{where} refuses: {error}") from None
        except amqp.PreconditionFailed as error:
            raise NotSupportedByBroker(
                f"{where} has a queue of our name that was declared otherwise: "
                f"{error.reply_text}. Delete it once it is empty (rabbitmqctl delete_queue), or "
                "give the bench another 'bench_id'."
            ) from None
        except (amqp.AccessRefused, amqp.NotAllowed) as error:  # the user, or its virtual host
            raise BrokerUnavailable(f"{where} refuses the login: {error.reply_text}") from None
        except (amqp.AMQPError, amqp.MessageNacked) as error:
            said = str(error) or type(error).__name__
            raise BrokerUnavailable(f"{where} refuses: {said}") from None
        except redis.RedisError as error:
            raise as_ours(error, where, url) from None
        except socket.timeout:
            raise BrokerUnavailable(f"{where} is out of reach: it does not answer") from None
        except (OperationalError, OSError) as error:
            if isinstance(error.__cause__, redis.RedisError):
                raise as_ours(error.__cause__, where, url) from None
            why = unreached(error, url)
            raise BrokerUnavailable(f"{where} is out of reach: {why}") from None


def _is_to_be_sent(sending: Sending, recorded: int) -> bool:
    """Not where it waits for its time, or somebody has sent it from the outbox."""
    if recorded == Recorded.DELAYED:
        return False
    return bool(recorded) and not (sending.has_row and recorded == Recorded.KNOWN)


def _refuse_what_workers_refuse(task: Any, app: Celery) -> None:
    """Raise ArgumentError if that app's workers do not accept the task's serializer.

    It would be kept aside there, and its caller would wait for ever.
    """
    accepted = prepare_accept_content(app.conf.accept_content)
    if accepted and registry.name_to_type.get(task.serializer) not in accepted:
        raise ArgumentError(
            f"{task.name} is sent as {task.serializer!r}, which the workers of its queue refuse: "
            f"'accept_content' is {', '.join(app.conf.accept_content)}. Name it there, or give the "
            "task the serializer 'json'."
        )
