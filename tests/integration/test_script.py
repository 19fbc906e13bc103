"""A script of Redis is called with one command, whose answer nobody else reads."""

from __future__ import annotations

import os
import random
import signal
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from frappe_jobs import embedded
from frappe_jobs.ledger.connection import connect
from frappe_jobs.ledger.script import Script, packed

ECHO = "return {KEYS[1] or '', unpack(ARGV)}"


@pytest.fixture
def server(redis_url):
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def own_server(tmp_path):
    """One whose scripts nobody else needs."""
    embedded.start(tmp_path)
    with connect(embedded.running(tmp_path)) as client:
        yield client
    embedded.stop(tmp_path)


@pytest.mark.parametrize(
    "parts", [("EVALSHA", "é", 1, 2.5, -3, 1e300, b"\xff", ""), ("x" * 100_000, "\n", '"')]
)
def test_a_command_is_packed_as_redis_py_packs_it(parts):
    assert packed(parts) == b"".join(redis.Connection().pack_command(*parts))


@pytest.mark.parametrize("part", [None, True, [], {}, object()])
def test_what_redis_py_refuses_is_refused(part):
    with pytest.raises(redis.DataError):
        packed([part])


def test_keys_and_arguments_arrive_as_they_are(server):
    script = Script(server, ECHO)
    assert script(keys=["é"], args=["a b", 1, 2.5, "", b"raw"]) == [
        "é",
        "a b",
        "1",
        "2.5",
        "",
        "raw",
    ]
    assert script() == [""]


def test_a_script_that_the_server_has_forgotten_is_loaded_again(own_server):
    server = own_server
    script = Script(server, ECHO + " -- forgotten")
    for _ in range(2):
        server.script_flush()
        assert script(args=["x"]) == ["", "x"]


def test_an_error_of_the_script_is_raised_and_the_connection_goes_on(server):
    script = Script(server, "return redis.error_reply('ODD no')")
    client_id = server.client_id()
    for _ in range(2):
        with pytest.raises(redis.ResponseError, match="ODD no"):
            script()
    assert server.client_id() == client_id


def test_in_a_pipeline_it_is_a_part_of_that(server):
    with server.pipeline(transaction=False) as pipe:
        Script(server, ECHO)(args=["x"], client=pipe)
        pipe.echo("y")
        assert pipe.execute() == [["", "x"], "y"]


def test_the_answer_to_an_interrupted_call_is_nobodys(server):
    """A job's timeout may interrupt whatever runs; the next call must not read that answer."""
    slow = Script(server, "for n = 1, 3e7 do end return 'slow'")
    slow()

    class Interrupted(BaseException):
        pass

    def interrupt(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for seconds in (0.0005, 0.005, 0.02, 0.05):
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                slow()
            except Interrupted:
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert server.echo("mine") == "mine"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_threads_that_share_connections_get_their_own_answers(redis_url):
    """Also while Redis ends connections."""
    wrong, right = [], []

    def ask(name):
        for number in range(300):
            text = f"{name} {number}"
            try:
                answer = script(args=[text]) if number % 2 else server.echo(text)
            except redis.ConnectionError:
                continue
            (right if answer == text else wrong).append(answer)

    with (
        connect(redis_url, client_name="shared") as server,
        connect(redis_url) as other,
        ThreadPoolExecutor(8) as threads,
    ):
        script = Script(server, "return ARGV[1]")
        asked = [threads.submit(ask, name) for name in range(8)]
        while not all(one.done() for one in asked):
            if ours := [one["id"] for one in other.client_list() if one["name"] == "shared"]:
                other.client_kill_filter(_id=random.choice(ours))
        for one in asked:
            one.result()
    assert not wrong
    assert len(right) > 1_000


def test_a_process_that_is_forked_has_connections_of_its_own(server):
    parents = server.client_id()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 dislikes a fork among threads
        pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if server.client_id() != parents else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert server.client_id() == parents


class TestEach:
    """One call after another, of which the next is made ready while Redis works."""

    def test_gives_the_answers_in_order_and_makes_the_next_call_ready_before(self, server):
        made = []

        def calls():
            for number in range(5):
                made.append(number)
                yield [number]

        found = Script(server, "return ARGV[1]").each(calls())
        assert [(next(found), len(made)) for _ in range(5)] == [
            ("0", 2), ("1", 3), ("2", 4), ("3", 5), ("4", 5),
        ]  # fmt: skip
        assert [*found] == []
        assert [*Script(server, ECHO).each([])] == []

    def test_loads_a_script_that_the_server_has_forgotten_in_between(self, own_server):
        script = Script(own_server, "redis.call('RPUSH', 'list', ARGV[1]) return ARGV[1]")

        def calls():
            for number in range(6):
                if number in (0, 3):
                    own_server.script_flush()
                yield [number]

        assert [*script.each(calls())] == [*"012345"]
        assert own_server.lrange("list", 0, -1) == [*"012345"]

    def test_raises_the_error_of_a_call_and_nobody_reads_the_answer_to_the_next(self, server):
        script = Script(server, "if ARGV[1] == '1' then error('odd') end return ARGV[1]")
        found = script.each([number] for number in range(4))
        assert next(found) == "0"
        with pytest.raises(redis.ResponseError, match="odd"):
            next(found)
        assert server.echo("mine") == "mine"

    def test_may_be_left_before_its_end(self, server):
        found = Script(server, "return ARGV[1]").each([number] for number in range(4))
        assert next(found) == "0"
        found.close()
        assert server.echo("mine") == "mine"

    def test_ends_where_the_connection_does(self, redis_url):
        with connect(redis_url, client_name="each") as server, connect(redis_url) as other:

            def calls():
                for number in range(6):
                    if number == 3:
                        (own,) = [one for one in other.client_list() if one["name"] == "each"]
                        other.client_kill_filter(_id=own["id"])
                    yield [number]

            found = []
            with pytest.raises(redis.ConnectionError):
                for answer in Script(server, "return ARGV[1]").each(calls()):
                    found.append(answer)
            assert found in ([*"01"], [*"012"], [*"0123"])
            assert server.echo("mine") == "mine"
