"""A command as a process of its own that has Celery imported already: a fork of one that has.

A start from nothing costs most of a second of processor time, and the tests make many hundred. The
README's commands and the workers that are measured still start from nothing.
"""

from __future__ import annotations

import atexit
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
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import NamedTuple, Protocol

import redis_version

import frappe_jobs
from frappe_jobs.doctor.versions import check_versions
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
            with suppress(ProcessLookupError):  # it has ended, and its status is on its way
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
    deque(check_versions(on_bench=False), maxlen=0)  # what it has parsed stays so
    redis_version.keep()


class Running(NamedTuple):
    """A command that was begun, and where its exit status is told."""

    pid: int
    status: int

    def tell(self) -> None:
        """It has ended."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with suppress(BrokenPipeError):  # nobody waits for it any more
            os.write(self.status, b"%d\n" % code)
        os.close(self.status)


def fork_for(way: socket.socket, life: socket.socket) -> str | None:
    """Fork for each request until the other end of the second socket is gone.

    In the process that has a command to run, its module.
    """
    running: dict[int, Running] = {}
    while life not in (ready := select.select([way, life, *running], [], [])[0]):
        for handle in running.keys() & ready:
            running.pop(handle).tell()
            os.close(handle)
        if way not in ready:
            continue
        asking, _ = way.accept()
        with asking:
            request, descriptors, *_ = socket.recv_fds(asking, SIZE, 4)
        if not request:
            continue
        *streams, status = descriptors
        if not (pid := os.fork()):
            for left in (way.detach(), life.detach(), status, *running):
                os.close(left)
            for other in running.values():
                os.close(other.status)
            module, *rest = json.loads(request)
            become(*rest, streams)
            return str(module)
        for stream in streams:
            os.close(stream)
        os.write(status, b"%d\n" % pid)
        running[os.pidfd_open(pid)] = Running(pid, status)
    return None


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


class LastStep:
    """Ends a command's process where Python would take all its modules apart.

    That would copy them, and costs more than most commands do; what a program has asked for at its
    end is done by then.
    """

    def __init__(self) -> None:
        self._pid, self._status = 0, 0

    def __enter__(self) -> None:
        self._pid = os.getpid()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SystemExit):
            has_number = isinstance(error.code, int)
            self._status = error.code if has_number else int(error.code is not None)
        elif isinstance(error, Exception):
            self._status = 1
        elif error:  # it ends by a signal
            self._pid = 0

    def take(self) -> None:
        """Leave, unless this is a fork of the command's, or its output cannot be written."""
        if os.getpid() != self._pid:
            return
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        except (OSError, ValueError):
            return
        os._exit(self._status & 0xFF)


def run_as_main(module: str) -> None:
    """What ``python -m`` does, or ``python -c``."""
    if module == CODE:
        exec(sys.argv.pop(1), {"__name__": "__main__"})
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    last_step = LastStep()
    atexit.register(last_step.take)  # the first that is registered is called last
    preload()
    gc.collect()
    gc.freeze()
    if found := fork_for(*(socket.socket(fileno=int(number)) for number in sys.argv[1:])):
        with last_step:
            run_as_main(found)
