"""The way to the broker is cut in the middle of many messages: what was sent is known."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit

import pytest
import redis
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import errors, runtime

MARKER = "cut here"


class Wire:
    """A way to a server, which is cut for good before the marker gets there."""

    def __init__(self, url):
        self.server = urlsplit(url).hostname, urlsplit(url).port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.ends, self.threads = [self.listener], []
        host, port = self.listener.getsockname()
        self.url = url.replace(f"{self.server[0]}:{self.server[1]}", f"{host}:{port}")
        self.begin(self.accept)

    def begin(self, target, *arguments):
        self.threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self.threads[-1].start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.server)
            self.ends += client, server
            self.begin(self.carry, client, server, MARKER.encode())
            self.begin(self.carry, server, client, None)

    def carry(self, source, target, marker):
        before = b""
        try:
            while data := source.recv(65536):
                if marker and marker in before + data:
                    self.cut()
                    return
                before = data[-len(MARKER) :]
                target.sendall(data)
        except OSError:  # it was cut
            pass

    def cut(self):
        for end in self.ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:  # its other side was quicker
                pass

    def close(self):
        self.cut()
        for thread in self.threads:
            thread.join(5)
        for end in self.ends:
            end.close()


@pytest.fixture
def wire():
    """Makes a wire to the server of that URL."""
    wires = []

    def make(url):
        wires.append(Wire(url))
        return wires[-1].url

    yield make
    for one in wires:
        one.close()


def lead(bench, **urls):
    """Have the bench take that way."""
    config = {"bench_id": bench.id, "redis_queue": bench.redis_url}
    bench.write("common_site_config.json", config | urls)
    bench.use()


def refused(items):
    """The jobs that were sent, as the error tells them."""
    with frappe.site("site1"), pytest.raises(errors.BrokerUnavailable) as caught:
        frappe.enqueue_many(items)
    return caught.value.details["sent"]


def test_on_rabbitmq_what_is_confirmed_counts_as_sent_and_the_rest_is_called_off(
    make_bench, amqp_url, wire
):
    bench = make_bench(celery_broker_url=amqp_url)
    lead(bench, celery_broker_url=wire(amqp_url))
    with frappe.site("site1"):
        taken = frappe.enqueue(tasks.ping, job_id="taken")
    items = [{"method": tasks.ping, "job_id": str(number)} for number in range(4)]
    items[0] |= {"job_id": "taken", "deduplicate": True}
    # what is confirmed is asked before another queue is declared
    items[2] |= {"job_name": MARKER, "queue": "long"}
    assert [job.id for job in refused(items)] == ["1"]
    with frappe.site("site1"):
        statuses = [frappe.get_job(item["job_id"]).status for item in items]
    assert statuses == ["queued", "queued", "cancelled", "cancelled"]
    assert frappe.get_job("2", "site1").reason == "never sent: the broker was out of reach"
    assert runtime.current().ledger.unsent(taken.enqueued_at + 60) == []


def test_on_redis_what_went_with_the_steps_before_is_told(make_bench, wire):
    bench = make_bench()
    lead(bench, redis_queue=wire(bench.redis_url))
    with frappe.site("site1"):
        frappe.enqueue(tasks.ping, "long", job_id="taken")
    items = [{"method": tasks.ping, "job_id": str(number)} for number in range(402)]
    items[7] |= {"job_id": "taken", "deduplicate": True}
    items[401] |= {"job_name": MARKER}
    jobs = refused(items)
    assert [job.id for job in jobs] == [str(number) for number in range(400) if number != 7]
    with redis.Redis.from_url(bench.redis_url) as server:
        assert server.llen(f"{bench.id}:default\x06\x166") == 399
