"""A worker's connection to Redis in a test's own process, and messages for it"""

from __future__ import annotations

import socket
import time
from itertools import count
from uuid import uuid4

from frappe_jobs.celery.transport import guard
from frappe_jobs.celery.transport.take import Take
from frappe_jobs.message import Message, Sending

#: Seconds within which something happens that is to happen now, on a busy machine.
NOW = 15


class Taker:
    """Takes as a worker's connection does, in this process."""

    def __init__(self, here, *queues, is_fair=True, guests=(), is_ahead=False):
        self.kept = []
        prefix = here.settings.prefix
        self.connection = here.app.connection_for_read()
        guard(
            self.connection, lambda *kept: self.kept.append(kept), unpacked_limit=10**6,
            is_guest=False,
            take=Take(
                f"{prefix}paused", f"{prefix}weights", is_fair=is_fair, is_ahead=is_ahead,
                guests=frozenset(map(here.broker.queue_name, guests)),
            ),
        )  # fmt: skip
        self.channel = self.connection.channel()
        self.channel.basic_qos(0, 1, False)
        self.got = []
        names = [here.app.amqp.queues[here.broker.queue_name(queue)] for queue in queues]
        self.consumer = self.connection.Consumer(
            names, on_message=self.got.append, channel=self.channel, auto_declare=False
        )
        self.consumer.consume()

    def take(self, seconds=NOW):
        """The next message, which is held; None if none came within these seconds."""
        until = time.monotonic() + seconds
        while not self.got and time.monotonic() < until:
            try:
                self.connection.drain_events(timeout=min(1, seconds))
            except socket.timeout:
                continue
        return self.got.pop() if self.got else None

    def names(self, number):
        """The names of so many jobs, as they come; each is acknowledged before the next."""
        found = []
        for _ in range(number):
            message = self.take()
            assert message, found
            found.append(message.headers["frappe_jobs"]["name"])
            message.ack()
        return found

    def close(self):
        self.connection.close()


numbers = count()


def message(site="site1", name=None, queue="default", **values):
    message_id = str(uuid4())
    return Message(
        id=message_id, job_id=message_id, site=site, user="grete", method="acme.tasks.ping",
        queue=queue, name=name or site, timeout=300, enqueued_at=time.time() + next(numbers) / 1e6,
        **values,
    )  # fmt: skip


def send(here, *messages):
    here.broker.publish([Sending(one) for one in messages], here.ledger)


def sends(here, site, number, **values):
    send(here, *(message(site, f"{site} {n}", **values) for n in range(number)))
