"""Which tests meet which server."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers.folder import Folder
from servers.started import MariaDB, PostgreSQL, Programs, RabbitMQ, Redis

ROOT = Path(__file__).parents[2]
#: In the folder: where its Python finds what the tests need.
VENV = "/opt/frappe_jobs-venv"

#: What RabbitMQ 4.3 may leave out as deprecated, and another default type of queue.
STRICT = (
    "deprecated_features.permit.transient_nonexcl_queues = false",
    "deprecated_features.permit.global_qos = false",
    "default_queue_type = quorum",
)

ON_RABBITMQ = (
    "tests/contract/test_broker.py", "tests/integration/test_rabbitmq.py",
    "tests/integration/test_taking.py", "tests/integration/test_burst.py",
    "tests/integration/test_cut_off.py", "tests/integration/test_stopping.py",
    "tests/chaos/test_at_front.py", "tests/chaos/test_kills.py", "tests/chaos/test_hostile.py",
    "-k", "not redis",
)  # fmt: skip
ON_REDIS = (
    "tests/contract/test_broker.py", "tests/integration", "tests/chaos/test_kills.py",
    "-k", "not rabbitmq",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One server, and the tests that it has to pass."""

    name: str
    release: str
    tests: tuple[str, ...]
    #: Starts the server in a folder with its data, and the variable that tells the tests of it.
    server: Callable[[Folder, Path], Any] | None = None
    variable: str = ""


ROWS = (
    Row("RabbitMQ 4.0", "trixie", ON_RABBITMQ, RabbitMQ, "AMQP_URL"),
    Row("RabbitMQ 4.3", "forky", ON_RABBITMQ, RabbitMQ, "AMQP_URL"),
    Row(
        "RabbitMQ 4.3, strict", "forky", ON_RABBITMQ,
        lambda root, data: RabbitMQ(root, data, *STRICT), "AMQP_URL",
    ),
    Row("Redis 8", "forky", ON_REDIS, Redis, "REDIS_URL"),
    Row(
        "Valkey 9", "forky", ON_REDIS,
        lambda root, data: Redis(root, data, "valkey-server"), "REDIS_URL",
    ),
    Row("MariaDB 11.8", "forky", ("tests/contract", "-k", "mariadb"), MariaDB, "MARIADB_URL"),
    Row("PostgreSQL 18", "forky", ("tests/contract", "-k", "postgres"), PostgreSQL, "POSTGRES_URL"),
    Row("TLS", "forky", ("tests/integration/test_tls.py",), Programs, "PATH"),
    Row("Python 3.14", "forky", ("tests/unit", "tests/contract", "tests/integration")),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What became of a row: a version and counts, or why it did not run."""

    name: str
    version: str = ""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    absent: str = ""

    def __str__(self) -> str:
        if self.absent:
            return f"{self.name}: did not run, as {self.absent}"
        return (
            f"{self.version or self.name}: {self.passed} passed, {self.failed} failed, "
            f"{self.skipped} skipped"
        )


def run(row: Row, folder: Folder, data: Path, arguments: list[str]) -> Result:
    """Start the row's server, run its tests, end the server; raises Unavailable."""
    if row.server is None:
        return _run_in_folder(row, folder, data, arguments)
    with row.server(folder, data / "server") as server:
        python = [sys.executable]
        return _run(row, server.version(), python, data, {row.variable: server.url}, arguments)


def _run_in_folder(row: Row, folder: Folder, data: Path, arguments: list[str]) -> Result:
    """With the folder's own Python, and what it needs from the package index."""
    folder.bind(ROOT)
    python = f"{VENV}/bin/python"
    if not (folder.path / python.lstrip("/")).exists():
        folder.run("python3", "-m", "venv", VENV)
    folder.run(python, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[test]")
    version = folder.run(python, "--version").strip()
    command = folder.command("env", "-C", ROOT, python)
    return _run(row, version, command, data, {}, arguments)


def _run(
    row: Row,
    version: str,
    python: list[str],
    data: Path,
    variables: Mapping[str, str],
    arguments: list[str],
) -> Result:
    report = data / "report.xml"
    subprocess.run(
        [
            *python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile",
            "-p", "no:cacheprovider", f"--junitxml={report}", *row.tests, *arguments,
        ],
        cwd=ROOT, env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if not report.exists():  # pytest itself has failed, and has said why
        return Result(row.name, version, failed=1)
    suite = ET.parse(report).getroot()[0].attrib
    tests, skipped = int(suite["tests"]), int(suite["skipped"])
    failed = int(suite["failures"]) + int(suite["errors"])
    return Result(row.name, version, tests - skipped - failed, failed, skipped)
