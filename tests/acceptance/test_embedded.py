"""The embedded server: one for a folder, for its owner alone, and what it holds stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis

import frappe_jobs as frappe
from frappe_jobs import embedded, errors
from frappe_jobs.testing import wait_until

#: Names that mean something to a shell, a URL, a pattern or a Redis's configuration.
NAMES = [
    'quo"ted \'twice\'', "back\\slash\\x41", "new\nline\r\n", " spaces  ", "Büro-☃-日本",
    "a[b]*?{c}~", "50%20%", "#x?db=3&y;z@h:1,w", os.fsdecode(b"not-utf-8-\xff"),
    "deep/" * 30 + "longer-than-a-socket",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    embedded.stop(tmp_path)


def client_of(folder):
    return redis.Redis.from_url(embedded.running(folder))


def pid_of(folder):
    with client_of(folder) as client:
        return client.info("server")["process_id"]


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
    os.kill(pid_of(server), signal.SIGKILL)
    embedded._started.pop().wait()
    embedded.start(server)
    with client_of(server) as client:
        assert client.get("held") == b"still there"


def test_it_comes_back_where_it_was(server):
    was = embedded.running(server)
    embedded.stop(server)
    assert embedded.start(server) == was


def test_it_listens_on_no_port_and_its_folder_is_its_owners_alone(server):
    assert not listening_ports(pid_of(server))
    folder = server / ".frappe_jobs"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "server.sock").stat().st_mode) == 0o700


def listening_ports(pid):
    """The TCP ports at which that process listens, as Linux tells."""
    held = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # a file that was open for a moment
            held.add(os.readlink(one))
    lines = "".join(Path(f"/proc/{pid}/net/{one}").read_text() for one in ("tcp", "tcp6"))
    rows = [line.split() for line in lines.splitlines() if ":" in line]
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held]


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_in_a_folder_of_any_name_or_depth(folder, name):
    sites = folder / name
    sites.mkdir(parents=True)
    for _ in range(2):
        url = embedded.start(sites)
        assert embedded.start(sites) == url
        with client_of(sites) as client:
            client.incr("starts")
            starts = int(client.get("starts"))
        assert embedded.stop(sites)
        assert embedded.running(sites) is None
    assert starts == 2
    assert not (sites / "appendonlydir").exists()


@pytest.mark.parametrize("name", [" 50%20% \"q\" \\ \n 'Büro' #?;@", NAMES[-1]])
def test_a_worker_serves_it_wherever_it_is_also_after_its_restart(make_bench, folder, name):
    sites = folder / name
    sites.mkdir(parents=True)
    bench = make_bench(redis_queue=embedded.start(sites))
    bench.use()
    try:
        with frappe.site("site1"), bench.worker("--queue", "default"):
            assert frappe.enqueue("acme.tasks.ping").wait(10) == "pong"
            os.kill(pid_of(sites), signal.SIGKILL)
            embedded._started.pop().wait()
            embedded.start(sites)
            assert frappe.enqueue("acme.tasks.ping").wait(30) == "pong"
    finally:
        embedded.stop(sites)


@pytest.mark.parametrize("name", ["short", NAMES[-1]])
def test_a_copy_of_its_folder_has_a_server_of_its_own(folder, name):
    sites, copy = folder / name, folder / f"copy/{name}"
    sites.mkdir(parents=True)
    url = embedded.start(sites)
    try:
        with client_of(sites) as client:
            client.set("of", "the first")
        wait_until(lambda: b"the first" in appended(sites), 5)
        shutil.copytree(sites, copy, symlinks=True, ignore=only_sockets)
        assert embedded.running(copy) is None
        assert not embedded.stop(copy)
        assert embedded.start(copy) != url
        with client_of(copy) as client:
            assert client.getset("of", "the copy") == b"the first"
        embedded.stop(sites)
        with client_of(copy) as client:
            assert client.get("of") == b"the copy"
    finally:
        embedded.stop(sites)
        embedded.stop(copy)


def appended(sites):
    """What a server has written to its disk."""
    files = (sites / ".frappe_jobs/appendonlydir").iterdir()
    return b"".join(one.read_bytes() for one in files)


def only_sockets(folder, names):
    """Which Python cannot copy."""
    return [name for name in names if (Path(folder) / name).is_socket()]


def test_the_sockets_of_folders_that_are_gone_are_tidied_up(folder):
    places = []
    for name in ("first", "second"):
        sites = folder / name / NAMES[-1]
        sites.mkdir(parents=True)
        embedded.start(sites)
        places.append((sites / ".frappe_jobs/socket").readlink().parent)
        embedded.stop(sites)
        assert [one.is_dir() for one in places] == [True] * len(places)  # workers may look there
    shutil.rmtree(folder / "first")
    third = folder / "third" / NAMES[-1]
    third.mkdir(parents=True)
    embedded.start(third)
    embedded.stop(third)
    assert [one.is_dir() for one in places] == [False, True]


def test_a_folder_that_was_moved_has_its_server_still():
    with TemporaryDirectory() as short:  # so that the socket lies in the folder itself
        before, after = Path(short) / "before", Path(short) / "after"
        before.mkdir()
        embedded.start(before)
        pid = pid_of(before)
        before.rename(after)
        try:
            assert pid_of(after) == pid
            assert "/after/" in embedded.start(after)
        finally:
            assert embedded.stop(after)


def test_beside_one_that_hangs_no_second_one_is_started(server, monkeypatch):
    monkeypatch.setattr(embedded, "START_TIMEOUT", 0.5)
    pid = pid_of(server)
    os.kill(pid, signal.SIGSTOP)
    try:
        for order in (embedded.start, embedded.stop):
            with pytest.raises(errors.BrokerUnavailable, match=f"does not answer: process {pid}"):
                order(server)
        assert embedded.running(server) is None
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: embedded.running(server), 10)


def test_one_that_reads_its_data_for_long_is_waited_for(server, monkeypatch):
    embedded.stop(server)
    (data,) = (server / ".frappe_jobs/appendonlydir").glob("*.incr.aof")
    loop = "for n = 1, 6000 do end"
    with data.open("a") as file:
        file.write(f"*3\r\n$4\r\nEVAL\r\n${len(loop)}\r\n{loop}\r\n$1\r\n0\r\n" * 60_000)
    monkeypatch.setattr(embedded, "START_TIMEOUT", 1.0)
    begun = time.monotonic()
    embedded.start(server)
    assert time.monotonic() - begun > embedded.START_TIMEOUT
    with client_of(server) as client:
        assert client.ping()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_is_not_used(folder):
    embedded.start(folder)
    pid = pid_of(folder)
    where = folder / ".frappe_jobs"
    try:
        os.chown(where, 65534, -1)
        for order in (embedded.start, embedded.running, embedded.stop):
            with pytest.raises(errors.ConfigError, match="belongs to user 65534.*run this as"):
                order(folder)
        assert Path(f"/proc/{pid}").exists()
    finally:
        os.chown(where, 0, -1)


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_in_a_place_that_others_may_enter_it_is_neither_found_nor_put(
    folder, tmp_path_factory, mode
):
    sites = folder / NAMES[-1]
    sites.mkdir(parents=True)
    embedded.start(sites)
    place = (sites / ".frappe_jobs/socket").readlink().parent
    os.kill(pid_of(sites), signal.SIGKILL)
    embedded._started.pop().wait()
    place.chmod(mode)
    (place / "server.sock").unlink()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(place / "server.sock"))
        stranger.listen()
        stranger.setblocking(False)
        try:
            assert embedded.running(sites) is None
            embedded.start(sites)
            assert str(place) not in embedded.running(sites)
            with pytest.raises(BlockingIOError):
                stranger.accept()
        finally:
            embedded.stop(sites)
    shutil.rmtree(place)


def test_a_ctrl_c_in_the_shell_that_started_it_does_not_reach_it(server):
    pid = pid_of(server)
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
    assert "refuses" in done.stderr and "maxmemory" in done.stderr
    assert "Traceback" not in done.stderr
    bench.use()
    with frappe.site("site1"), pytest.raises(errors.BrokerUnavailable, match="refuses"):
        frappe.enqueue_many([{"method": "acme.tasks.ping"}])
