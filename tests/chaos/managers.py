"""Process managers that run a bench by the file that we wrote for them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frappe_jobs.testing import wait_until

BIN = Path(sys.executable).parent
START_TIMEOUT, STOP_TIMEOUT = 60, 60

SUPERVISORD = """
[supervisord]
nodaemon=true
{user}
pidfile={folder}/pid
logfile={folder}/supervisord.log
[unix_http_server]
file={folder}/sock
[supervisorctl]
serverurl=unix://{folder}/sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[include]
files={folder}/bench.conf
"""


class Supervisor:
    """supervisord, which includes our file."""

    def __init__(self, bench: Any, folder: Path) -> None:
        self._bench, self._folder = bench, folder
        done = bench.run("setup", "supervisor", "--output", str(folder / "bench.conf"))
        assert done.returncode == 0, done.stderr
        bench.path.joinpath("logs").mkdir()
        user = "user=root" if os.getuid() == 0 else ""
        text = SUPERVISORD.format(folder=folder, user=user)
        folder.joinpath("supervisord.conf").write_text(text)
        with folder.joinpath("said").open("w") as said:
            self._process = self._start("supervisord", stdout=said)

    def _start(self, program: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        command = [BIN / program, "-c", self._folder / "supervisord.conf", *arguments]
        environment = {k: v for k, v in self._bench.environment.items() if k != "SITES_PATH"}
        return subprocess.Popen(
            command, cwd="/", env=environment, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, **options,
        )  # fmt: skip

    def control(self, *arguments: str) -> str:
        """What supervisorctl says."""
        process = self._start("supervisorctl", *arguments, stdout=subprocess.PIPE)
        return process.communicate(timeout=START_TIMEOUT + STOP_TIMEOUT)[0]

    def restart(self) -> None:
        said = self.control("restart", "all")
        assert "ERROR" not in said, said

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(STOP_TIMEOUT) == 0, self.log

    @property
    def log(self) -> str:
        files = [self._folder / "said", *self._bench.path.glob("logs/*.log")]
        return "\n".join(file.read_text(errors="replace") for file in files if file.exists())

    def is_ready(self) -> bool:
        """Whether all its processes have said that they are ready."""
        assert self._process.poll() is None, self.log
        files = [*self._bench.path.glob("logs/*.log")]
        return len(files) > 1 and all("ready\n" in file.read_text() for file in files)

    def kill(self) -> None:
        end(self._process)


class Honcho:
    """honcho, with the Procfile that we wrote; it is started anew to restart it."""

    def __init__(self, bench: Any, folder: Path) -> None:
        self._bench, self._log = bench, folder / "honcho.log"
        done = bench.run("setup", "procfile", "--output", str(folder / "Procfile"))
        assert done.returncode == 0, done.stderr
        self._command = [BIN / "honcho", "-f", folder / "Procfile", "-d", bench.path, "start"]
        self._count = len(folder.joinpath("Procfile").read_text().splitlines())
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        environment = self._bench.environment | {"PATH": f"{BIN}:{os.environ['PATH']}"}
        with self._log.open("a") as log:
            return subprocess.Popen(
                self._command, env=environment, stdout=log, stderr=log, text=True,
                start_new_session=True,
            )  # fmt: skip

    def restart(self) -> None:
        self.stop()
        self._process = self._start()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(STOP_TIMEOUT)
        assert "SIGKILL" not in self.log, self.log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def is_ready(self) -> bool:
        assert self._process.poll() is None, self.log
        return self.log.count("| ready") >= self._count

    def kill(self) -> None:
        end(self._process)


def end(process: subprocess.Popen[str]) -> None:
    """Have a manager end all that it has started, if it still runs."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT)
        finally:
            process.kill()


@contextmanager
def running(kind: type[Supervisor | Honcho], bench: Any) -> Iterator[Any]:
    """That manager, once all processes are ready; nothing of it is left at the end."""
    folder = Path(tempfile.mkdtemp(prefix="managed-"))  # a socket's path must be short
    manager = None
    try:
        manager = kind(bench, folder)
        wait_until(manager.is_ready, START_TIMEOUT)
        yield manager
    except BaseException:
        print(manager and manager.log)
        raise
    finally:
        if manager:
            manager.kill()
        shutil.rmtree(folder)
