"""A command as a process of its own that has Celery imported already: a fork of one that has.

A start from nothing costs most of a second of processor time, and the tests make many hundred. The
README's commands and the workers that are measured still start from nothing.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, Protocol

import frappe_jobs
from frappe_jobs.testing import slowness

#: What the commands import on their way, beside our own.
LIBRARIES = (
    "celery.apps.beat", "celery.apps.worker", "celery.backends.redis", "celery.bin.worker",
    "celery.concurrency.prefork", "celery.worker.autoscale", "celery.worker.components",
    "celery.worker.consumer", "kombu.transport.pyamqp", "kombu.transport.redis", "psycopg",
    "pymysql", "redbeat", "sqlalchemy.dialects.mysql.pymysql",
    "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite.pysqlite",
    "zoneinfo",
)  # fmt: skip
OURS = "frappe_jobs"
CODE = "-c"
#: A program that asks the forker for a process, and is told of its end; signals go to the process.
PROGRAM = """#!{python} -IS
import array, json, os, signal, socket, sys
{begin}
reading, writing = os.pipe()
request = json.dumps([module, arguments, os.getcwd(), dict(os.environ), [first]]).encode()
streams = array.array("i", [0, 1, 2, writing])
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as way:
    way.connect({address!r})
    way.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
os.close(writing)
with os.fdopen(reading) as status:
    pid = int(status.readline())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    code = int(status.readline())
os._exit(code if code >= 0 else 128 - code)
"""
#: Of a shell's ``frappe-jobs``.
COMMAND = f'module, arguments, first = "{OURS}", sys.argv[1:], os.path.dirname(__file__)'
#: Of a Python that is asked for one of these modules; the real one has to do all else.
PYTHON = """if sys.argv[1] != "-m" or sys.argv[2] not in {modules}:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
(module, *arguments), first = sys.argv[2:], os.getcwd()"""
#: Of a request: the arguments and the environment.
SIZE = 1 << 18


class Process:
    """A command that runs; leader of a session of its own."""

    def __init__(self, status: int) -> None:
        #: Carries its process id, and at its end its exit status.
        self._status = os.fdopen(status, "rb", buffering=0)
        self.pid = int(self._line())
        self.returncode: int | None = None

    def _line(self) -> bytes:
        return b"".join(iter(lambda: self._status.read(1).strip(), b""))

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        if self.returncode is None and self._is_told(0):
            self.returncode = int(self._line())
            self._status.close()
        return self.returncode

    def _is_told(self, timeout: float | None) -> bool:
        return bool(select.select([self._status], [], [], timeout)[0])

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not self._is_told(timeout):
            # To look how slow the machine is takes processor time: only for one that is late.
            if not self._is_told(timeout and timeout * (slowness() - 1)):
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        found = self.poll()
        assert found is not None
        return found

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Start(Protocol):
    """Begins ``python -m frappe_jobs`` with three standard streams.

    Or another module; with ``-c`` in its place the first of the arguments is code.
    """

    def __call__(
        self,
        arguments: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        *streams: int,
        module: str = OURS,
    ) -> Process | subprocess.Popen[bytes]: ...


def start_cold(
    arguments: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    *streams: int,
    module: str = OURS,
) -> subprocess.Popen[bytes]:
    """From nothing, where Python itself is told something as it starts."""
    stdin, stdout, stderr = streams
    what = [module] if module == CODE else ["-m", module]
    return subprocess.Popen(
        [sys.executable, *what, *arguments], cwd=cwd, env=environment,
        stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True,
    )  # fmt: skip


def run(
    start: Start,
    arguments: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    typed: str,
    module: str = OURS,
) -> subprocess.CompletedProcess[str]:
    """What a command says to what was typed, and how it ends."""
    (output, writing_output), (errors, writing_errors) = os.pipe(), os.pipe()
    with TemporaryFile("w+") as typing, ThreadPoolExecutor(2) as readers:
        typing.write(typed)
        typing.seek(0)
        streams = typing.fileno(), writing_output, writing_errors
        process = start(arguments, cwd, environment, *streams, module=module)
        os.close(writing_output)
        os.close(writing_errors)
        said = [*readers.map(_read, (output, errors))]
        return subprocess.CompletedProcess(arguments, process.wait(60), *said)


def _read(reading: int) -> str:
    with os.fdopen(reading) as pipe:
        return pipe.read()


class Forker:
    """A process that begins commands, one after the other."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="forker-")
        self._address = f"{self._folder.name}/way"
        self._life, theirs = socket.socketpair()
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as way:
            way.bind(self._address)
            way.listen(128)
            descriptors = way.fileno(), theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, __file__, *map(str, descriptors)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=descriptors,
                env=os.environ | {"PYTHONWARNINGS": ""}, start_new_session=True,
            )  # fmt: skip

    def start(
        self,
        arguments: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        *streams: int,
        module: str = OURS,
    ) -> Process:
        """Begin a module's command with three standard streams."""
        first = [str(cwd), *environment.get("PYTHONPATH", "").split(os.pathsep)]
        request = json.dumps([module, list(arguments), str(cwd), dict(environment), first]).encode()
        reading, writing = os.pipe()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as way:
                way.connect(self._address)
                socket.send_fds(way, [request], [*streams, writing])
        finally:
            os.close(writing)
        return Process(reading)

    def write_command(self, file: Path) -> Path:
        """Make it a ``frappe-jobs`` whose processes are begun here."""
        return self._write(file, COMMAND)

    def write_python(self, file: Path, *modules: str) -> Path:
        """Make it a Python that has the processes of these modules begun here."""
        return self._write(file, PYTHON.format(python=sys.executable, modules=modules))

    def _write(self, file: Path, begin: str) -> Path:
        file.parent.mkdir(exist_ok=True)
        file.write_text(PROGRAM.format(python=sys.executable, begin=begin, address=self._address))
        file.chmod(0o755)
        return file

    def close(self) -> None:
        """End it; what it has begun goes on."""
        self._life.close()
        self._process.wait(10)
        self._folder.cleanup()


# --- in the forker


def preload() -> None:
    """Import what a command may need, but no app: those are of the command's own folder."""
    elsewhere = "frappe_jobs.__main__", "frappe_jobs.frappe_bench", "frappe_jobs.frappe_jobs"
    for one in pkgutil.walk_packages(frappe_jobs.__path__, "frappe_jobs."):
        if not one.name.startswith(elsewhere):
            import_module(one.name)
    for name in LIBRARIES:
        import_module(name)


def requests(way: socket.socket, life: socket.socket) -> Iterator[tuple[Any, list[int]]]:
    """What is asked for, until the other end of the second socket is gone."""
    while life not in select.select([way, life], [], [])[0]:
        asking, _ = way.accept()
        with asking:
            received = socket.recv_fds(asking, SIZE, 4)
        if received[0]:
            yield json.loads(received[0]), received[1]


def fork_for(way: socket.socket, life: socket.socket) -> str | None:
    """Fork for each request; in the process that has a command to run, its module."""
    for (module, *rest), descriptors in requests(way, life):
        if not os.fork():
            way.close()
            life.close()
            *streams, status = descriptors
            if pid := os.fork():
                wait_for(pid, streams, status)
            os.close(status)
            become(*rest, streams)
            return str(module)
        for descriptor in descriptors:
            os.close(descriptor)
        bury()
    return None


def bury() -> None:
    """Wait for those forks that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:  # there is none
        pass


def wait_for(pid: int, streams: Sequence[int], status: int) -> None:
    """Tell the command's id, and its exit status when it has ended."""
    for stream in streams:
        os.close(stream)
    os.write(status, b"%d\n" % pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(status, b"%d\n" % code)
    os._exit(0)


def become(
    arguments: Sequence[str],
    cwd: str,
    environment: Mapping[str, str],
    first: Sequence[str],
    streams: Sequence[int],
) -> None:
    """Be the process that the request asks for; what it imports is looked for in those first."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    sys.path[:1] = first


if __name__ == "__main__":
    preload()
    gc.collect()
    gc.freeze()
    if found := fork_for(*(socket.socket(fileno=int(number)) for number in sys.argv[1:])):
        if found == CODE:
            exec(sys.argv.pop(1), {"__name__": "__main__"})
        else:
            runpy.run_module(found, run_name="__main__", alter_sys=True)
