"""Ports for servers that are ended and begun again while their clients try to reach them."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

#: Below those that a kernel gives to clients: one of these, or a server's own client that meets
#: itself there, might have such a port while its server is away.
PORTS = range(10_000, 32_000)

#: A file for each port that a test has had, locked by the process that has it.
CLAIMS = Path(tempfile.gettempdir(), "frappe_jobs-ports")
_claimed: list[int] = []


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody has, and that no other test gets, in any run, until this process ends."""
    CLAIMS.mkdir(exist_ok=True)
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            if _claim(port):
                return port


def _claim(port: int) -> bool:
    try:
        claim = os.open(CLAIMS / str(port), os.O_RDWR | os.O_CREAT)
    except OSError:  # another user's
        return False
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(claim)
        return False
    _claimed.append(claim)
    return True
