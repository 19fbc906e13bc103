"""The spoilt way of the other tests does what it says."""

from __future__ import annotations

import os
import socket
import threading

import pytest
from proxy import DOWN, UP, Proxy

from frappe_jobs.testing import wait_until


@pytest.fixture
def echo():
    """The URL of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client):
        with client:
            try:
                while data := client.recv(65536):
                    client.sendall(data)
            except OSError:
                pass

    def accept():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield f"echo://me:secret@127.0.0.1:{listener.getsockname()[1]}/path?query"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.fixture
def way(echo):
    with Proxy(echo) as proxy:
        yield proxy


@pytest.fixture
def connect(way):
    made = []

    def make(timeout=10):
        made.append(socket.create_connection((way.host, way.port), timeout=timeout))
        return made[-1]

    yield make
    for one in made:
        one.close()


def read(client, size):
    data = b""
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    return data


def echoes(client, text=b"hello"):
    client.sendall(text)
    return read(client, len(text)) == text


def is_silent(client):
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(10)
    return True


def test_it_carries_in_both_directions_under_the_same_url(way, connect):
    assert way.url == f"echo://me:secret@127.0.0.1:{way.port}/path?query"
    client = connect()
    assert echoes(client)
    half = threading.Thread(target=client.sendall, args=(b"x" * 3_000_000,))
    half.start()
    assert read(client, 3_000_000) == b"x" * 3_000_000
    half.join()
    client.close()
    wait_until(lambda: way.open == 0)


@pytest.mark.parametrize("directions", [(), (UP,), (DOWN,)])
def test_what_it_swallows_is_lost_with_its_connection(way, connect, directions):
    old = connect()
    idle = connect()
    assert echoes(old) and echoes(idle)
    way.swallow(*directions)
    old.sendall(b"lost")
    new = connect()
    new.sendall(b"lost")
    assert is_silent(old)
    assert way.swallowed == 8
    way.restore()
    assert is_silent(old) and is_silent(new)
    assert echoes(connect()) and echoes(idle)


def test_what_it_freezes_comes_later(way, connect):
    client = connect()
    assert echoes(client)
    way.freeze()
    client.sendall(b"later")
    connect().sendall(b"later")
    assert is_silent(client)
    with pytest.raises(TimeoutError):  # the kernel takes one or two by itself
        for _ in range(3):
            connect(timeout=0.3)
    way.restore()
    assert read(client, 5) == b"later"
    assert echoes(connect())


def test_its_port_is_its_own_again_at_once_though_its_thread_has_not_heard_of_it(way, connect):
    with socket.socket(fileno=os.dup(way._listener.fileno())):  # as while the thread waits for it
        way.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect()
        way.restore()
        client = connect()
        client.sendall(b"back")
        assert client.recv(10) == b"back"


def test_it_refuses_on_the_same_port_and_resets_what_is_there(way, connect):
    client = connect()
    assert echoes(client)
    way.refuse()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect()
    way.restore()
    client = connect()
    assert echoes(client)
    way.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert echoes(connect())


def test_it_drops_idle_connections_with_and_without_a_word(way, connect):
    told, silent = connect(), connect()
    assert echoes(told) and echoes(silent)
    way.drop_idle(0.3, reset=False)
    wait_until(lambda: way.open == 0)
    silent.sendall(b"lost")
    assert is_silent(silent)
    way.drop_idle(0.3, reset=True)
    new = connect()
    assert echoes(new)
    with pytest.raises(ConnectionResetError):
        new.recv(1)
    way.drop_idle(0, reset=True)
    assert echoes(connect())


def test_the_reply_to_what_is_named_is_cut_off(way, connect):
    way.cut_off(lambda data: data == b"COMMIT")
    client = connect()
    assert echoes(client)
    client.sendall(b"COMMIT")
    assert client.recv(100) == b""
    assert way.cut == 1
