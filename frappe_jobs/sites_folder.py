"""The files of a sites folder: found, read as Frappe reads them, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from frappe_jobs.errors import ConfigError

COMMON_CONFIG = "common_site_config.json"
SITE_CONFIG = "site_config.json"
APPS = "apps.txt"


def find_sites_path() -> Path:
    """``SITES_PATH``, else the current folder, else its ``sites/``; raises ConfigError."""
    if named := os.environ.get("SITES_PATH"):
        if not Path(named).is_dir():
            raise ConfigError(f"SITES_PATH is {named!r}, and that is no folder.")
        return Path(named).resolve()
    for folder in (Path.cwd(), Path.cwd() / "sites"):
        if any((folder / name).is_file() for name in (COMMON_CONFIG, APPS)):
            return folder
    raise ConfigError(
        f"No sites folder: neither {Path.cwd()} nor its 'sites' holds a {COMMON_CONFIG} or an "
        f"{APPS}. Go there, or set SITES_PATH."
    )


def is_frappe_bench(sites_path: Path) -> bool:
    """Whether Frappe itself runs on that sites folder: its apps.txt names it, and it is there."""
    path = f"{sites_path}/{APPS}"
    return "frappe" in app_names(path, version_of(path)) and find_spec("frappe") is not None


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        *above, last = error.object[: error.start].split(b"\n")
        line, column = len(above) + 1, len(last.decode()) + 1
        raise ConfigError(f"{path}, line {line}, column {column}: not UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None


def version_of(path: str) -> tuple[int, ...] | None:
    """What changes whenever the file does; None while it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


# Read once for each version of a file: every enqueue asks for a site's apps.
@lru_cache(maxsize=10_000)
def site_config(common: str, _: object, own: str, __: object) -> Mapping[str, Any]:
    return MappingProxyType(read_common(Path(common).parent) | read_object(Path(own)))


@lru_cache
def app_names(path: str, version: object) -> Sequence[str]:
    lines = read_text(Path(path)).splitlines() if version else []
    return tuple(name for name in map(str.strip, lines) if name and name[0] != "#")


def read_common(sites_path: Path) -> dict[str, Any]:
    """The bench's configuration; a sites folder need not have one."""
    path = sites_path / COMMON_CONFIG
    return read_object(path) if path.exists() else {}


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in that file; raises ConfigError with file, line and column."""
    try:
        value = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}, line {error.lineno}, column {error.colno}: not JSON ({error.msg})."
        ) from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must hold a JSON object, not {type(value).__name__}.")
    return value


def write_object(path: Path, changes: Mapping[str, Any], remove: Iterable[str] = ()) -> None:
    """Set these keys of the JSON object in that file; who reads it meanwhile sees all or none.

    Raises ConfigError.
    """
    values = read_object(path) | dict(changes)
    for key in remove:
        values.pop(key, None)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        draft.chmod(path.stat().st_mode & 0o777)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None
