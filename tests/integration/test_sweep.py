"""A job whose message is lost is sent again, and its id is never blocked for ever."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import redis
from acme import tasks
from conftest import opened
from kombu import Connection
from recorded import ANOTHER, SOMEBODY

import frappe_jobs as frappe
from frappe_jobs import errors, runtime, sweep
from frappe_jobs.dispatch import Options
from frappe_jobs.ledger.record import Attempt
from frappe_jobs.message import Sending
from frappe_jobs.testing import wait_until

DAY = 24 * 3600


@pytest.fixture
def bench(on_each_broker):
    return on_each_broker


def swept(seconds_later):
    """The jobs that a sweep sends again, so many seconds from now."""
    here = runtime.current()
    now = time.time() + seconds_later
    return [one.message.id for one in sweep.sweep(here.settings, here.ledger, here.broker, now)]


def composed():
    """A message as enqueue makes it."""
    here = runtime.current()
    session = here.host.require_current()
    return here.dispatcher.compose(tasks.ping, {}, Options(), session)


def lose(bench):
    """Take every message of the default queue away, behind everybody's back."""
    name = f"{bench.id}:default"
    if bench.amqp_url:
        with Connection(bench.amqp_url) as connection:
            connection.default_channel.queue_purge(name)
    else:
        with redis.Redis.from_url(bench.redis_url) as server:
            assert server.delete(name + "\x06\x166", name)


def test_what_was_recorded_but_never_sent_is_sent(bench):
    message = composed()
    here = runtime.current()
    assert here.ledger.record([Sending(message)]) == [True]  # and then its process died
    assert swept(10) == []
    assert swept(61) == [message.id]
    assert swept(200) == []
    with bench.worker("--queue", "default", "--burst") as worker:
        assert here.jobs.of_message(message).wait(10) == "pong"
        assert worker.process.wait(10) == 0


def test_what_was_put_back_is_sent_though_whoever_moved_it_died_before_it_was_published(bench):
    ledger, job = runtime.current().ledger, frappe.enqueue(tasks.ping)
    lose(bench)  # as it was acknowledged when it was put back
    message = ledger.find("site1", job.id).message
    assert ledger.start(message, SOMEBODY) == Attempt(1)
    ledger.redis.pexpire(ledger._key("lease", message.id), 200)
    assert ledger.start(message, ANOTHER).wait is not None
    ledger.release(message, SOMEBODY)  # its process is gone
    wait_until(lambda: ledger.send_due(ledger.due().due) == [True], 5)
    assert swept(50) == []
    assert swept(61) == [job.message_id]
    with bench.worker("--queue", "default"):
        assert job.wait(10) == "pong"


def test_what_took_long_to_compose_is_not_taken_for_unsent(bench):
    ledger = runtime.current().ledger
    message = replace(composed(), enqueued_at=time.time() - 3600)
    ledger.record([Sending(message)])
    assert ledger.unsent(time.time() - 60) == []
    assert [one.message.id for one in ledger.unsent(time.time() + 1)] == [message.id]


def test_what_waits_or_runs_is_left_alone(bench):
    until = bench.path / "until"
    with bench.worker("--queue", "default"):
        held = frappe.enqueue(tasks.hold, until=str(until))
        wait_until(lambda: held.get_status() == "started", 10)
        waiting = [frappe.enqueue(tasks.ping, at_front=front) for front in (True, False)]
        runtime.current().ledger.redis.delete(
            runtime.current().ledger._key("lease", held.message_id)
        )  # as if it were lost
        assert swept(100) == []
        until.touch()
        for job in waiting:
            job.wait(10)


def test_on_redis_a_message_that_vanished_is_sent_again(on_redis):
    jobs = [frappe.enqueue(tasks.ping, job_id=str(number)) for number in range(3)]
    lose(on_redis)
    kept = frappe.enqueue(tasks.ping)
    assert swept(61) == [job.message_id for job in jobs]
    assert swept(62) == []
    with on_redis.worker("--queue", "default"):
        assert [job.wait(10) for job in (*jobs, kept)] == ["pong"] * 4


def test_on_redis_it_finds_what_is_there_in_a_long_queue(on_redis):
    frappe.enqueue_many({"method": tasks.ping} for _ in range(1_500))
    assert swept(61) == []


def test_on_redis_an_id_is_held_as_long_as_its_job_waits(on_redis):
    frappe.enqueue(tasks.ping, job_id="held", deduplicate=True)
    ledger = runtime.current().ledger
    ledger.redis.zadd(ledger._key("open", "site1"), {ledger.find("site1", "held").message.id: 1.0})
    assert frappe.enqueue(tasks.ping, job_id="held", deduplicate=True) is None


def test_of_jobs_that_are_taken_and_run_meanwhile_none_is_said_to_be_lost(
    make_bench, broker_urls, caplog
):
    url, *amqp = broker_urls
    config = {"celery_broker_url": amqp[0]} if amqp else {}
    with opened(make_bench(frappe_jobs_lease=2, **config)) as bench:
        here = runtime.current()
        frappe.enqueue_many({"method": tasks.ping} for _ in range(600))
        patient = here.settings.lease + 1
        wait_until(lambda: here.ledger.oldest("default") < time.time() - patient, 2 * patient)
        looks = 0
        with bench.worker("--queue", "default", "--concurrency", "2", "--burst") as worker:
            while worker.process.poll() is None:
                # Each time as if long after the last look: what was looked for is spared for long.
                later = time.time() + min(looks, 1_000) * (sweep.RELIEF + 1) * here.settings.lease
                assert sweep.sweep(here.in_force, here.ledger, here.broker, later) == []
                looks += 1
        assert looks > 20
        assert "is sent again" not in worker.log + caplog.text


def age(job, days):
    """Let the ledger believe that it was enqueued so long ago."""
    ledger = runtime.current().ledger
    at = job.enqueued_at - days * DAY
    for index in (ledger._key("open", job.site), ledger._key("waiting", job.queue)):
        ledger.redis.zadd(index, {job.message_id: at})


def test_on_rabbitmq_a_message_counts_as_lost_after_a_day(on_rabbitmq):
    job = frappe.enqueue(tasks.ping)
    lose(on_rabbitmq)
    assert swept(DAY - 10) == []
    assert swept(DAY + 10) == [job.message_id]
    assert swept(DAY + 700) == []
    with on_rabbitmq.worker("--queue", "default"):
        assert job.wait(10) == "pong"


def test_on_rabbitmq_the_id_is_free_then_and_a_late_message_ends_superseded(on_rabbitmq):
    late = frappe.enqueue(tasks.echo, tag="late", job_id="the id", deduplicate=True)
    assert frappe.enqueue(tasks.ping, job_id="the id", deduplicate=True) is None
    age(late, days=1.01)
    new = frappe.enqueue(tasks.ping, job_id="the id", deduplicate=True)
    with on_rabbitmq.worker("--queue", "default"):
        assert new.wait(10) == "pong"
        with pytest.raises(errors.JobFailed):
            late.wait(10)
    assert (late.status, late.reason) == ("cancelled", "superseded: its job_id is another's")
    assert on_rabbitmq.marks("echo") == []


def test_a_job_that_could_not_be_sent_does_not_hold_its_id(make_bench):
    bench = make_bench(celery_broker_url="amqp://guest:guest@127.0.0.1:1//")
    bench.use()
    with frappe.site("site1"):
        with pytest.raises(errors.BrokerUnavailable):
            frappe.enqueue(tasks.ping, job_id="again", deduplicate=True)
        assert not frappe.is_job_enqueued("again")
        job = frappe.get_job("again")
        assert (job.status, job.reason) == (
            "cancelled", "never sent: the broker was out of reach",
        )  # fmt: skip
        assert swept(1000) == []
