"""The servers of a folder, each a process of its own with its data in a folder under /tmp."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pymysql
import redis
from chaos import servers
from kombu import Connection
from ports import free_port
from servers.folder import Folder, Unavailable

#: Where Debian keeps RabbitMQ's own scripts; the commands would become another user.
SCRIPTS = "/usr/lib/rabbitmq/bin"
RABBITMQ = f"{SCRIPTS}/rabbitmq-server"


class RabbitMQ(servers.RabbitMQ):
    """A node of that release; ``lines`` go into its rabbitmq.conf."""

    def __init__(self, root: Folder, data: Path, *lines: str) -> None:
        super().__init__(data)
        self._root = root
        self._epmd = {"ERL_EPMD_PORT": str(free_port())}
        (data / "rabbitmq.conf").write_text("\n".join(lines))

    def _program(self) -> list[str]:
        return self._root.command(RABBITMQ)

    def _command(self) -> tuple[list[str], Mapping[str, str]]:
        program, variables = super()._command()
        return program, {**variables, **self._epmd}

    def end(self, number: int = signal.SIGTERM) -> None:
        super().end(number)
        port = self._epmd["ERL_EPMD_PORT"]
        try:  # Erlang's own name server, which its node has started and leaves behind
            self._root.run("env", f"ERL_EPMD_PORT={port}", "epmd", "-kill")
        except Unavailable:  # the node never came so far
            pass

    def version(self) -> str:
        with Connection(self.url) as connection:
            connection.connect()
            return f"RabbitMQ {connection.connection.server_properties['version']}"


class Redis(servers.Redis):
    """Redis or Valkey of that release, by the name of its program."""

    def __init__(self, root: Folder, data: Path, program: str = "redis-server") -> None:
        super().__init__(data)
        self._root, self._program = root, program

    def _command(self) -> tuple[list[str], Mapping[str, str]]:
        (_, *options), variables = super()._command()
        return self._root.command(self._program, *options), variables

    def version(self) -> str:
        with redis.Redis.from_url(self.url) as server:
            said = server.info("server")
        if "valkey_version" in said:
            return f"Valkey {said['valkey_version']}"
        return f"Redis {said['redis_version']}"


class MariaDB(servers.Server):
    """MariaDB, whose root needs no password."""

    def __init__(self, root: Folder, data: Path) -> None:
        super().__init__(data)
        self._root, self._port = root, free_port()
        self.url = f"mysql+pymysql://root@127.0.0.1:{self._port}"

    def _command(self) -> tuple[list[str], Mapping[str, str]]:
        data = f"--datadir={self.folder / 'data'}"
        self._root.run(
            "mariadb-install-db", "--no-defaults", "--user=root", data,
            "--auth-root-authentication-method=normal",
        )  # fmt: skip
        return self._root.command(
            "mariadbd", "--no-defaults", "--user=root", data, f"--port={self._port}",
            "--bind-address=127.0.0.1", f"--socket={self.folder / 'socket'}",
        ), {}  # fmt: skip

    def _answers(self) -> bool:
        try:
            return bool(self._ask("SELECT 1"))
        except pymysql.Error:
            return False

    def _ask(self, question: str) -> str:
        with pymysql.connect(host="127.0.0.1", port=self._port, user="root") as connection:
            with connection.cursor() as cursor:
                cursor.execute(question)
                return str(cursor.fetchone()[0])

    def version(self) -> str:
        return f"MariaDB {self._ask('SELECT version()').partition('-')[0]}"


class PostgreSQL(servers.Server):
    """PostgreSQL, which runs as its own user and lets everybody in."""

    def __init__(self, root: Folder, data: Path) -> None:
        super().__init__(data)
        self._root, self._port = root, free_port()
        self.url = f"postgresql+psycopg://root@127.0.0.1:{self._port}/postgres"
        found = sorted(root.path.glob("usr/lib/postgresql/*/bin"))
        if not found:
            raise Unavailable(f"{root} has no PostgreSQL")
        self._programs = Path("/") / found[-1].relative_to(root.path)
        os.chown(data, root.uid("postgres"), -1)

    def _command(self) -> tuple[list[str], Mapping[str, str]]:
        data = self.folder / "data"
        self._root.run(
            self._programs / "initdb", "-D", data, "-U", "root", "-A", "trust", user="postgres"
        )
        return self._root.command(
            self._programs / "postgres", "-D", data, "-p", self._port, "-k", self.folder,
            "-c", "listen_addresses=127.0.0.1", user="postgres",
        ), {}  # fmt: skip

    def _answers(self) -> bool:
        try:
            return bool(self.version())
        except psycopg.OperationalError:
            return False

    def version(self) -> str:
        with psycopg.connect(f"postgresql://root@127.0.0.1:{self._port}/postgres") as connection:
            said = connection.execute("SHOW server_version").fetchone()
        assert said
        return f"PostgreSQL {said[0].partition(' ')[0]}"


class Programs(AbstractContextManager["Programs"]):
    """The release's programs, for tests that start servers of their own: a PATH that has them."""

    def __init__(self, root: Folder, data: Path) -> None:
        self._root = root
        data.mkdir()
        for program in ("/usr/bin/redis-server", RABBITMQ, f"{SCRIPTS}/rabbitmqctl"):
            script = data / Path(program).name
            script.write_text(f'#!/bin/sh\nexec {shlex.join(root.command(program))} "$@"\n')
            script.chmod(0o755)
        self.url = f"{data}:{os.environ['PATH']}"

    def version(self) -> str:
        asked = ("dpkg-query", "-W", "-f", "${Package} ${Version}\n")
        said = self._root.run(*asked, "redis-server", "rabbitmq-server").splitlines()
        redis_server, rabbitmq_server = (_upstream(line.split()[1]) for line in sorted(said)[::-1])
        return f"TLS Redis {redis_server}, RabbitMQ {rabbitmq_server}"

    def __exit__(self, *error: object) -> None:
        pass


def _upstream(version: str) -> str:
    """Debian's version of a package without what is Debian's own: "5:8.0.6-1" is 8.0.6."""
    return version.rpartition(":")[2].partition("-")[0]
