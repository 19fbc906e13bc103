"""What a run took place on: without it no number means anything."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender

PACKAGES = (
    "celery",
    "kombu",
    "redis",
    "hiredis",
    "rq",
    "dramatiq",
    "huey",
    "taskiq",
    "taskiq-redis",
)


def load() -> str:
    """How many processes want to run, on average over the last minute."""
    return f"{os.getloadavg()[0]:.2f}"


def facts(
    server: Any, absent: Sequence[Contender] = (), packages: Sequence[str] = PACKAGES
) -> dict[str, str]:
    """The machine and the software, by name."""
    info = server.info("server")
    name = str(info.get("server_name", "redis")).capitalize()
    version = info.get(f"{name.lower()}_version", info["redis_version"])
    found = {
        "date": date.today().isoformat(),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": f"{name} {version} on this machine, no persistence",
        "packages": ", ".join(_versions(packages)),
    }
    if absent:
        found["absent"] = ", ".join(sorted({one.packages[0] for one in absent}))
    return found


def _versions(packages: Sequence[str]) -> list[str]:
    found = []
    for name in packages:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
