"""Servers of a test's own, which it may kill and start again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import uuid4

import redis
from kombu import Connection
from ports import free_port

from frappe_jobs.embedded import server_binary
from frappe_jobs.testing import wait_until

START_TIMEOUT = 60


class Server(AbstractContextManager["Server"], ABC):
    """A process that keeps its data in a folder, on the same port whenever it runs."""

    url: str
    _process: subprocess.Popen[bytes] | None = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def _command(self) -> tuple[list[str], Mapping[str, str]]:
        """The command, and what is put into its environment."""

    @abstractmethod
    def _answers(self) -> bool: ...

    def start(self) -> None:
        """Start it, and return once it answers."""
        command, variables = self._command()
        with (self.folder / "output").open("ab") as output:
            self._process = process = subprocess.Popen(
                command, cwd=self.folder, env=os.environ | variables, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        wait_until(lambda: self._answers() or process.poll() is not None, START_TIMEOUT)
        if process.poll() is not None:
            said = (self.folder / "output").read_text()[-2000:]
            raise RuntimeError(f"{command[0]} did not start: {said}")

    def end(self, number: int = signal.SIGKILL) -> None:
        """Kill it, or with SIGTERM let it end in its own way; its data stay."""
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, number)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(10)

    def __enter__(self) -> Server:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


class Redis(Server):
    """Redis, whose append-only file is synced with each command, unless speed is what counts."""

    def __init__(self, folder: Path, *, is_durable: bool = True) -> None:
        super().__init__(folder)
        self._is_durable = is_durable
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def _command(self) -> tuple[list[str], Mapping[str, str]]:
        options = {
            "port": self._port, "bind": "127.0.0.1", "dir": self.folder,
            "appendonly": "yes" if self._is_durable else "no", "appendfsync": "always",
        }  # fmt: skip
        command = [server_binary()]
        for key, value in options.items():
            command += [f"--{key}", str(value)]
        return command, {}

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_connect_timeout=1) as server:
                return bool(server.ping())
        except redis.RedisError:  # also while it reads its file
            return False


class RabbitMQ(Server):
    """A RabbitMQ node, with everything that a node writes in the folder."""

    #: Of rabbitmq.config. In Erlang's terms: for the other form a node reads all plugins' schemas,
    #: a third of the processor time of its start.
    _configuration = "[]."

    def __init__(self, folder: Path, **settings: int) -> None:
        super().__init__(folder)
        self._port, self._dist_port = free_port(), free_port()
        self._name = f"chaos-{uuid4().hex[:12]}@localhost"
        self._settings = settings
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}//"

    @staticmethod
    def script() -> Path | None:
        """The server's own script; Debian's command on the PATH would become another user."""
        found = shutil.which("rabbitmq-server", path=f"{os.environ['PATH']}:/usr/sbin")
        script = Path(found).resolve().parent / "rabbitmq-server" if found else None
        return script if script and script.exists() else None

    def _program(self) -> list[str]:
        """That of an installation without plugins.

        Each of its modules is looked for in the folders of all: half the processor time of a start.
        """
        script = self.script()
        assert script
        home, small = script.resolve().parents[1], self.folder / "home"
        if not small.exists():
            (small / "plugins").mkdir(parents=True)
            for name in ("sbin", "escript"):
                (small / name).symlink_to(home / name)
            for one in (home / "plugins").iterdir():
                if not one.name.startswith("rabbitmq_") or "prelaunch" in one.name:
                    (small / "plugins" / one.name).symlink_to(one)
        return [str(small / "sbin" / "rabbitmq-server")]

    def control(self, *arguments: str) -> None:
        """``rabbitmqctl``, on this node."""
        (script,), variables = self._command()
        command = [str(Path(script).with_name("rabbitmqctl")), *arguments]
        few_threads = {"ERL_FLAGS": f"{variables['ERL_FLAGS']} +S 1:1"}
        environment = os.environ | variables | few_threads
        subprocess.run(command, env=environment, check=True, capture_output=True)

    def _command(self) -> tuple[list[str], Mapping[str, str]]:
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "rabbitmq.config").write_text(f"{self._configuration}\n")
        (self.folder / "environment").touch()
        settings = [f"-rabbit {key} {value}" for key, value in self._settings.items()]
        return self._program(), {
            "HOME": str(self.folder),  # Erlang's cookie
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "environment"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(settings),
        }

    def _answers(self) -> bool:
        try:
            with Connection(self.url, connect_timeout=2) as connection:
                connection.connect()
                return True
        except OSError:
            return False
