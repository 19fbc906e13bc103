"""The embedded server: one for a folder, for its owner alone, and what it holds stays."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
import time

import pytest
import redis

import frappe_jobs as frappe
from frappe_jobs import embedded, errors


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    embedded.stop(tmp_path)


def client_of(folder):
    return redis.Redis.from_url(embedded.running(folder))


def address(folder):
    return json.loads((folder / ".frappe_jobs/server.json").read_text())


def port(folder):
    return int(address(folder)["url"].rpartition(":")[2].partition("/")[0])


def test_of_many_shells_that_start_it_at_once_one_does(folder):
    before, urls = len(embedded._started), []
    threads = [
        threading.Thread(target=lambda: urls.append(embedded.start(folder))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    begun = embedded._started[before:]
    for process in begun[1:]:  # where it is broken: they would live on
        process.kill()
    assert (len(begun), len(urls), len({*urls})) == (1, 4, 1)


def test_what_it_holds_survives_a_kill(server):
    with client_of(server) as client:
        client.set("held", "still there")
    os.kill(address(server)["pid"], signal.SIGKILL)
    embedded._started.pop().wait()
    embedded.start(server)
    with client_of(server) as client:
        assert client.get("held") == b"still there"


def test_it_comes_back_where_it_was_and_elsewhere_if_that_port_is_taken(server):
    was = port(server)
    embedded.stop(server)
    embedded.start(server)
    assert port(server) == was
    embedded.stop(server)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", was))
        other.listen()
        embedded.start(server)
    assert port(server) != was
    with client_of(server) as client:
        assert client.ping()


def test_it_listens_on_the_loopback_address_alone_and_asks_for_the_password(server):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port(server)), timeout=2)
    with socket.create_connection(("127.0.0.1", port(server)), timeout=2) as stranger:
        stranger.sendall(b"PING\r\n")
        assert stranger.recv(100).startswith(b"-NOAUTH")


def test_its_folder_and_files_are_its_owners_alone(server):
    folder = server / ".frappe_jobs"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("server.json", "server.conf"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_a_ctrl_c_in_the_shell_that_started_it_does_not_reach_it(server):
    pid = address(server)["pid"]
    assert os.getsid(pid) == pid


def test_stopped_it_is_gone_also_where_another_process_started_it(make_bench):
    bench = make_bench(redis_queue=None)
    assert bench.run("embedded", "start").returncode == 0
    assert embedded.stop(bench.sites)
    assert embedded.running(bench.sites) is None
    assert not embedded.stop(bench.sites)


def test_one_that_cannot_start_says_so_at_once_and_where_to_look(folder):
    (folder / ".frappe_jobs").mkdir()
    (folder / ".frappe_jobs/appendonlydir").touch()  # a file, where it wants a folder
    begun = time.monotonic()
    with pytest.raises(errors.BrokerUnavailable, match="server.log"):
        embedded.start(folder)
    assert time.monotonic() - begun < embedded.START_TIMEOUT / 2
    embedded._started.pop().wait()


def test_asked_for_it_goes_before_the_broker_of_the_configuration(make_bench):
    bench = make_bench(
        redis_queue="redis://127.0.0.1:1/0", celery_broker_url="amqp://127.0.0.1:1//"
    )
    try:
        done = bench.run("--embedded", "--site", "site1", "enqueue", "acme.tasks.ping")
        assert done.returncode == 0, done.stderr
        rows = json.loads(bench.run("--embedded", "queues", "--format", "json").stdout)
        assert [row["depth"] for row in rows] == [0, 1, 0]
    finally:
        embedded.stop(bench.sites)


def test_one_that_is_full_is_one_line_and_69(make_bench, server):
    bench = make_bench(redis_queue=embedded.running(server))
    with client_of(server) as client:
        client.config_set("maxmemory", "1")
    done = bench.run("--site", "site1", "enqueue", "acme.tasks.ping")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (69, "", 1)
    assert "takes nothing" in done.stderr and "maxmemory" in done.stderr
    assert ":***@" in done.stderr and "Traceback" not in done.stderr
    bench.use()
    with frappe.site("site1"), pytest.raises(errors.BrokerUnavailable, match="takes nothing"):
        frappe.enqueue_many([{"method": "acme.tasks.ping"}])
