"""A way to a server that a test can spoil: it swallows, freezes, refuses, or drops what is idle."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from urllib.parse import urlsplit

from ports import free_port

#: Directions: from the client to the server, and back.
UP, DOWN = "up", "down"
BOTH = (UP, DOWN)

#: Bytes that may wait for an end that does not read.
BUFFER = 1 << 20


class Proxy(AbstractContextManager["Proxy"]):
    """Listens on a port of its own, whose ``url`` is the server's but for host and port.

    It carries everything until it is told otherwise; each of ``swallow``, ``freeze``, ``refuse``
    takes the place of the one before, at once and for the connections that are there as well, and
    ``restore`` ends it.  One thread of the test's process does the work.
    """

    def __init__(self, url: str, host: str = "127.0.0.1") -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port, url
        self._server = parts.hostname, parts.port
        self._listener = socket.create_server((host, free_port(host)))
        self.host, self.port = self._listener.getsockname()
        credentials, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{credentials}{at}{self.host}:{self.port}").geturl()
        #: How many bytes it has swallowed, and how many connections it has taken.
        self.swallowed = 0
        self.accepted = 0
        self._lock = threading.RLock()
        self._flows: set[_Flow] = set()
        self._stranded: list[socket.socket] = []
        self._swallows: set[str] = set()
        self._frozen: set[str] = set()
        self._idle_after, self._resets = 0.0, False
        self._is_cut: Callable[[bytes], bool] = lambda data: False
        #: How many replies were cut off.
        self.cut = 0
        self._ends = False
        self._woken, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True, name="proxy")
        self._thread.start()

    def swallow(self, *directions: str) -> None:
        """Take what comes and hand it to nobody, ends of connections as well; nobody is told.

        A connection that has lost something stays silent for ever, as one does whose state is gone
        from a firewall: only those made after ``restore`` carry again.  New ones are accepted.
        """
        with self._changing():
            self._swallows = set(directions or BOTH)

    def swallow_after(self, count: int) -> None:
        """Carry so many more bytes to each client, and swallow what comes after them."""
        with self._changing():
            for flow in self._flows:
                flow.left = count

    def freeze(self, *directions: str) -> None:
        """Read nothing, and accept no more than the kernel does by itself: one connection.

        Nothing is lost: after ``restore`` the connections go on where they were.
        """
        with self._changing():
            self._frozen = set(directions or BOTH)
            self._listener.listen(0)  # one more, and the kernel answers nobody's SYN

    def refuse(self) -> None:
        """Reset all connections, and refuse new ones."""
        with self._changing():
            self._close_listener()
            self._reset_all()

    def strand(self) -> None:
        """Reset the clients' connections, and refuse new ones; the server is told nothing.

        It keeps what it had for those connections until it finds out by itself.
        """
        with self._changing():
            self._close_listener()
            for flow in self._flows:
                self._stranded.append(flow.strand())
            self._flows.clear()

    def reset(self) -> None:
        """Reset the connections that are there; new ones are welcome."""
        with self._changing(keeps=True):
            self._reset_all()

    def restore(self) -> None:
        """Carry everything again."""
        with self._changing():
            pass

    def drop_idle(self, after: float, *, reset: bool) -> None:
        """From now on drop each connection that has carried nothing for so many seconds.

        With ``reset`` both ends are told at once; without they never are.  0 ends it.
        """
        with self._changing(keeps=True):
            self._idle_after, self._resets = after, reset

    def cut_off(self, is_cut: Callable[[bytes], bool]) -> None:
        """Let what it names through to the server, and close its connection at the reply."""
        with self._changing(keeps=True):
            self._is_cut = is_cut

    @property
    def open(self) -> int:
        """How many connections still carry something, or would."""
        with self._lock:
            return sum(not flow.is_lost for flow in self._flows)

    def __exit__(self, *error: object) -> None:
        with self._changing():
            self._ends = True
        self._thread.join(5)
        self._reset_all()
        for one in (self._listener, self._woken, self._wake, *self._stranded):
            one.close()

    def _close_listener(self) -> None:
        # The thread may be waiting for it, which would keep the port until it hears of this.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _changing(self, *, keeps: bool = False) -> _Change:
        return _Change(self, keeps)

    def _begin_change(self, keeps: bool) -> None:
        self._lock.acquire()
        if keeps:
            return
        self._swallows, self._frozen = set(), set()
        if self._listener.fileno() < 0:
            self._listener = socket.create_server((self.host, self.port))
        self._listener.listen(128)

    def _end_change(self) -> None:
        self._lock.release()
        self._wake.send(b"!")

    def _reset_all(self) -> None:
        for flow in self._flows:
            flow.close(reset=True)
        self._flows.clear()

    def _run(self) -> None:
        while not self._ends:
            with self._lock:
                poller, ends = self._what_to_look_at()
            ready = poller.poll(self._patience())
            with self._lock:
                self._move(ready, ends)
                self._drop_idle_ones()

    def _what_to_look_at(self) -> tuple[select.poll, dict[int, tuple[_Flow, socket.socket]]]:
        poller = select.poll()
        poller.register(self._woken, select.POLLIN)
        if self._listener.fileno() >= 0 and UP not in self._frozen:
            poller.register(self._listener, select.POLLIN)
        ends = {}
        for flow in self._flows:
            for end, events in flow.wishes(self._frozen):
                poller.register(end, events)
                ends[end.fileno()] = flow, end
        return poller, ends

    def _patience(self) -> float | None:
        """Milliseconds."""
        return max(self._idle_after / 5, 0.05) * 1000 if self._idle_after else None

    def _move(
        self, ready: list[tuple[int, int]], ends: dict[int, tuple[_Flow, socket.socket]]
    ) -> None:
        for fd, event in ready:
            if fd == self._woken.fileno():
                self._woken.recv(4096)
            elif fd == self._listener.fileno():
                self._accept()
            elif fd in ends and ends[fd][1].fileno() == fd:  # no change closed it meanwhile
                flow, end = ends[fd]
                self.swallowed += flow.move(end, event, self._swallows, self._is_cut)
                self.cut += flow.is_cut
                if flow.is_over:
                    flow.close()
                    self._flows.discard(flow)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # it went away again
            return
        self.accepted += 1
        try:
            server = socket.create_connection(self._server, timeout=5)
        except OSError:
            _close(client, reset=True)
        else:
            self._flows.add(_Flow(client, server))

    def _drop_idle_ones(self) -> None:
        if not self._idle_after:
            return
        for flow in [*self._flows]:
            if time.monotonic() - flow.last_moved > self._idle_after:
                flow.is_lost = True
                if self._resets:
                    flow.close(reset=True)
                    self._flows.discard(flow)


class _Change(AbstractContextManager[None]):
    """What it is told takes hold as a whole, and before the call returns."""

    def __init__(self, proxy: Proxy, keeps: bool) -> None:
        self._proxy, self._keeps = proxy, keeps

    def __enter__(self) -> None:
        self._proxy._begin_change(self._keeps)

    def __exit__(self, *error: object) -> None:
        self._proxy._end_change()


class _Flow:
    """One client's connection, and ours to the server in its place."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._ends = {client: (server, UP), server: (client, DOWN)}
        for end in self._ends:
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._waiting = {client: bytearray(), server: bytearray()}
        self._ended: set[socket.socket] = set()
        #: Something of it was swallowed: whatever comes is swallowed from now on.
        self.is_lost = False
        #: So many bytes go to the client still; None is no limit.
        self.left: int | None = None
        self.last_moved = time.monotonic()
        #: Its next reply is cut off; it was.
        self.is_to_be_cut = self.is_cut = False

    @property
    def is_over(self) -> bool:
        if self.is_cut:
            return True
        if self.is_lost:
            return len(self._ended) == len(self._ends)
        return bool(self._ended) and not any(self._waiting.values())

    def wishes(self, frozen: set[str]) -> list[tuple[socket.socket, int]]:
        """Which of its ends to look at, and for what."""
        wishes = []
        for end, (other, direction) in self._ends.items():
            events = 0
            stops = direction in frozen or len(self._waiting[other]) > BUFFER
            if end not in self._ended and not stops:
                events |= select.POLLIN
            if self._waiting[end] and self._ends[other][1] not in frozen and not self.is_lost:
                events |= select.POLLOUT
            if events:
                wishes.append((end, events))
        return wishes

    def move(
        self,
        end: socket.socket,
        event: int,
        swallows: set[str],
        is_cut: Callable[[bytes], bool],
    ) -> int:
        """Do what that end is ready for; gives how many bytes were swallowed."""
        other, direction = self._ends[end]
        swallowed = 0
        try:
            if event & ~select.POLLIN and self._waiting[end]:
                del self._waiting[end][: end.send(self._waiting[end])]
            if event & ~select.POLLOUT and end not in self._ended:
                data = end.recv(65536)
                self.is_cut = direction == DOWN and self.is_to_be_cut
                self.is_to_be_cut |= direction == UP and is_cut(data)
                if direction in swallows:
                    self.is_lost = True
                if direction == DOWN and self.left is not None and len(data) > self.left:
                    other.send(data[: self.left])
                    self.is_lost = True
                if not data:
                    self._ended.add(end)
                elif self.is_lost:
                    swallowed = len(data)
                else:
                    self._waiting[other] += data
                    self.last_moved = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:
            self._ended.add(end)
            self.is_lost |= direction in swallows
            self._waiting[end].clear()
        return swallowed

    def strand(self) -> socket.socket:
        """Reset the client's end; gives the server's, which stays."""
        client, server = self._ends
        _close(client, reset=True)
        return server

    def close(self, *, reset: bool = False) -> None:
        for end in self._ends:
            _close(end, reset)


def _close(end: socket.socket, reset: bool) -> None:
    with closing(end):
        if reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
