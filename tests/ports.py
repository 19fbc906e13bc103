"""Ports for servers that are ended and begun again while their clients try to reach them."""

from __future__ import annotations

import random
import socket

#: Below those that a kernel gives to clients: one of these, or a server's own client that meets
#: itself there, might have such a port while its server is away.
PORTS = range(10_000, 32_000)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody has, chosen at random, as other tests choose as well."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
        return port
