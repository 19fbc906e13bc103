"""What every broker does for us; each adapter passes the same tests, on its real server."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from uuid import uuid4

import pytest
from kombu import Connection, Queue

from frappe_jobs import errors, runtime
from frappe_jobs.message import TASK, Message, Sending


def message(name="ping", **values):
    message_id = str(uuid4())
    return Message(
        id=message_id, job_id=message_id, site="site1", user="grete", method="acme.tasks.ping",
        queue="default", name=name, timeout=300, enqueued_at=time.time(), **values,
    )  # fmt: skip


def taken(app, queue, count):
    """The next messages of a queue as a worker takes them; acknowledged."""
    found = []
    with app.connection_for_read() as connection:
        channel = connection.channel()
        channel.basic_qos(0, 1, False)

        def take(body, raw):
            found.append((raw.headers, body))
            raw.ack()

        with connection.Consumer([app.amqp.queues[queue]], callbacks=[take], channel=channel):
            while len(found) < count:
                connection.drain_events(timeout=5)
    return found


class BrokerContract:
    """The fixture ``here`` gives a bench's runtime on the broker."""

    def send(self, here, *messages, **options):
        sendings = [Sending(one, **options) for one in messages]
        return here.broker.publish(sendings, here.ledger)

    def names(self, here, count):
        headers = [headers for headers, _ in taken(here.app, self.queue(here), count)]
        return [one["frappe_jobs"]["name"] for one in headers]

    def queue(self, here):
        return f"{here.settings.bench_id}:default"

    def test_a_message_arrives_whole(self, here):
        sent = message('a name: "é" %(id)s 100 %', arguments={"x": [1, {"y": "é"}]}, event="night")
        assert self.send(here, sent) == [True]
        ((headers, body),) = taken(here.app, self.queue(here), 1)
        assert (headers["task"], headers["id"], headers["shadow"]) == (TASK, sent.id, sent.name)
        assert headers["timelimit"] == [310, 300]
        assert Message.from_wire(headers["frappe_jobs"], body[0][0]) == sent

    def test_the_record_is_there_before_the_message_can_be_taken(self, here):
        sent = message()
        recorded = []

        class Recorder:
            sent = here.ledger.sent

            def record(self, sendings):
                assert here.broker.depth("default") == 0
                recorded.extend(sendings)
                return here.ledger.record(sendings)

            def record_each(self, chunks):
                return map(self.record, chunks)

        here.broker.publish([Sending(sent)], Recorder())
        assert [one.message for one in recorded] == [sent]
        assert here.ledger.read(sent.id).status == "queued"
        assert here.broker.depth("default") == 1

    def test_nothing_is_sent_where_the_record_says_no(self, here):
        first, second = (replace(message(), job_id="the same") for _ in range(2))
        assert self.send(here, first, second, claim=True) == [True, False]
        assert here.broker.depth("default") == 1
        assert here.ledger.read(second.id) is None

    def test_first_in_first_out(self, here):
        self.send(here, *(message(str(number)) for number in range(5)))
        assert self.names(here, 5) == list("01234")

    def test_at_front_goes_before_what_waits_and_stays_first_in_first_out(self, here):
        self.send(here, message("a"), message("b"))
        self.send(here, message("front 1", at_front=True), message("front 2", at_front=True))
        self.send(here, message("c"))
        assert self.names(here, 5) == ["front 1", "front 2", "a", "b", "c"]

    def test_depth_counts_a_queue_front_and_all(self, here):
        assert here.broker.depth("default") == 0
        self.send(here, message(), message(at_front=True), replace(message(), queue="long"))
        assert (here.broker.depth("default"), here.broker.depth("long")) == (2, 1)

    def test_a_broker_that_is_down_says_that_it_has_none(self, down):
        with pytest.raises(errors.BrokerUnavailable) as caught:
            self.send(down, message(), message())
        assert caught.value.details["sent"] == []


class TestRabbitmq(BrokerContract):
    @pytest.fixture
    def here(self, make_bench, amqp_url):
        return make_bench(celery_broker_url=amqp_url).use()

    @pytest.fixture
    def down(self, make_bench):
        return make_bench(celery_broker_url="amqp://guest:s3cret@127.0.0.1:1//").use()

    def test_a_waiting_message_stays_where_it_is(self, here):
        sent = message()
        self.send(here, sent)
        assert here.broker.discard([sent]) == set()
        assert here.broker.depth("default") == 1

    def test_a_queue_that_was_declared_otherwise_is_named_with_the_cure(self, here, amqp_url):
        with Connection(amqp_url) as connection:
            Queue(self.queue(here), channel=connection.default_channel).declare()
        with pytest.raises(errors.NotSupportedByBroker, match=f"{self.queue(here)}.*delete_queue"):
            self.send(here, message())


class TestRedis(BrokerContract):
    @pytest.fixture
    def here(self, bench):
        return runtime.current()

    @pytest.fixture
    def down(self, make_bench):
        return make_bench(redis_queue="redis://127.0.0.1:1/0").use()

    @pytest.mark.parametrize("at_front", [False, True])
    def test_a_waiting_message_can_be_taken_away(self, here, at_front):
        many = [message(str(number), at_front=at_front) for number in range(1200)]
        self.send(here, *many)
        assert here.broker.discard([many[7]]) == {many[7].id}
        assert here.broker.discard([many[7]]) == set()
        assert here.broker.depth("default") == 1199
        assert self.names(here, 8) == ["0", "1", "2", "3", "4", "5", "6", "8"]

    def test_many_are_taken_from_among_others_and_the_rest_keeps_its_order(self, here):
        many = [message(str(number), at_front=number % 5 == 0) for number in range(1000)]
        strange = f"{self.queue(here)}\x06\x166"
        self.send(here, *many)
        for raw in ("no JSON", "[]", '{"headers": 1}', '{"headers": {"id": {}}}'):
            here.ledger.redis.rpush(strange, raw)
        away = [one for number, one in enumerate(many) if number % 3]
        assert here.broker.discard(away) == {one.id for one in away}
        for _ in range(4):
            here.ledger.redis.rpop(strange)
        rest = [number for number in range(1000) if number % 3 == 0]
        front = [str(number) for number in rest if number % 5 == 0]
        assert self.names(here, len(rest)) == front + [str(n) for n in rest if n % 5]
        assert here.ledger.redis.keys(f"*{here.settings.bench_id}*discard*") == []

    def test_while_others_push_and_pop_none_is_missed(self, here):
        """Each message ends in one place: taken away, or popped."""
        key = self.queue(here) + "\x06\x166"
        many = [message(str(number)) for number in range(3000)]
        self.send(here, *many)
        stop, popped, server = threading.Event(), [], here.make_ledger().redis

        def others():
            while not stop.is_set():
                self.send(here, message("later"))
                popped.append(json.loads(server.rpop(key))["headers"]["id"])

        thread = threading.Thread(target=others)
        thread.start()
        try:
            away = here.broker.discard(many)
        finally:
            stop.set()
            thread.join()
        assert away.isdisjoint(popped)
        ids = {one.id for one in many}
        assert away | ids & {*popped} == ids
