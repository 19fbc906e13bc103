"""Find a sites folder's files, read them as Frappe does, write them as a whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkstemp
from types import MappingProxyType
from typing import Any

from frappe_jobs.errors import ConfigError, SiteNotFound, shortened
from frappe_jobs.texts.json_text import parse_json

COMMON_CONFIG = "common_site_config.json"
SITE_CONFIG = "site_config.json"
APPS = "apps.txt"
#: A site's key: its share of each queue, and what it may be.
WEIGHT = "frappe_jobs_weight"
#: Keys of a Frappe bench's common configuration: jobs go to RQ though the app is installed; it is
#: being switched, and jobs may wait on either side.
OFF, DRAINING = "frappe_jobs_off", "frappe_jobs_draining"
LIGHTEST, HEAVIEST = 0.01, 100


def find_sites_path() -> Path:
    """``SITES_PATH``, else the current folder, else its ``sites/``; raises ConfigError."""
    if named := os.environ.get("SITES_PATH"):
        if not Path(named).is_dir():
            raise ConfigError(f"SITES_PATH is {named!r}, which is no folder.")
        return Path(named).resolve()
    for folder in (Path.cwd(), Path.cwd() / "sites"):
        if any((folder / name).is_file() for name in (COMMON_CONFIG, APPS)):
            return folder
    raise ConfigError(
        f"No sites folder: neither {Path.cwd()} nor its 'sites' holds a {COMMON_CONFIG} or an "
        f"{APPS}. Go to the sites folder, or set SITES_PATH."
    )


def is_frappe_bench(sites_path: Path) -> bool:
    """Whether Frappe runs on that sites folder: its apps.txt names it, and it is installed."""
    path = f"{sites_path}/{APPS}"
    return "frappe" in app_names(path, version_of(path)) and find_spec("frappe") is not None


class Sites:
    """The sites of a folder: their names, their configuration, their installed apps."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """The sorted names of the folders that hold a site_config.json."""
        try:
            names = os.listdir(self._folder)
        except OSError:  # it is not there
            return []
        return sorted(filter(self.has, names))

    def has(self, site: object) -> bool:
        return (
            isinstance(site, str)
            and re.fullmatch(r"[\w-][\w.-]*", site) is not None
            and os.path.isfile(f"{self._folder}/{site}/{SITE_CONFIG}")  # False for any bad name
        )

    def require(self, site: str) -> None:
        """Raise SiteNotFound if it is no site, also for a name that leads out of the folder."""
        if not self.has(site):
            raise SiteNotFound.named(site, self.names())

    def config(self, site: str) -> Mapping[str, Any]:
        """Frappe's conf: the site's configuration over the common one.

        Raises SiteNotFound.
        """
        self.require(site)
        common, own = f"{self._folder}/{COMMON_CONFIG}", f"{self._folder}/{site}/{SITE_CONFIG}"
        return site_config(common, version_of(common), own, version_of(own))

    def write_config(self, site: str, changes: Mapping[str, Any]) -> None:
        """Set these keys of the site's own configuration; raises SiteNotFound, ConfigError."""
        self.require(site)
        write_object(self._folder / site / SITE_CONFIG, changes)

    def apps(self) -> Sequence[str]:
        """The apps that apps.txt names."""
        path = f"{self._folder}/{APPS}"
        return app_names(path, version_of(path))

    def weight(self, site: str) -> float:
        """The site's share of each queue beside others that wait, ``frappe_jobs_weight``, else 1.

        Raises ConfigError, SiteNotFound.
        """
        weight: float = self.config(site).get(WEIGHT, 1)
        is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not is_number or not LIGHTEST <= weight <= HEAVIEST:
            raise ConfigError(
                f"{self._folder}/{site}/{SITE_CONFIG}: {WEIGHT!r} must be a number from {LIGHTEST} "
                f"to {HEAVIEST}; not {shortened(weight)}. Until then it counts as 1."
            )
        return weight

    def weights(self) -> dict[str, float]:
        """The weights of all sites that have another than 1; a wrong one counts as 1."""
        weights: dict[str, float] = {}
        for site in self.names():
            with suppress(ConfigError, SiteNotFound):
                weights[site] = self.weight(site)
        return {site: weight for site, weight in weights.items() if weight != 1}

    def installed_apps(self, site: str) -> Sequence[str]:
        """``installed_apps`` of the site's configuration, else every line of apps.txt.

        As in Frappe a line that begins with ``#`` is a comment.
        """
        apps = self.config(site).get("installed_apps")
        if apps is None:
            return self.apps()
        if not isinstance(apps, list) or not all(isinstance(app, str) for app in apps):
            path = f"{self._folder}/{site}/{SITE_CONFIG}"
            raise ConfigError(f"{path}: 'installed_apps' must be a list of names; not {apps!r}.")
        return apps


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
    """A value that changes whenever the file does; None while there is no file."""
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
        value = parse_json(read_text(path))
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}, line {error.lineno}, column {error.colno}: not JSON ({error.msg})."
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must hold a JSON object, not {type(value).__name__}.")
    return value


def write_object(path: Path, changes: Mapping[str, Any], remove: Iterable[str] = ()) -> None:
    """Set these keys of the JSON object in that file; readers see all the changes or none.

    Raises ConfigError.
    """
    values = read_object(path) | dict(changes)
    for key in remove:
        values.pop(key, None)
    write_text(path, json.dumps(values, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Put that text into the file; readers see all of it or what was there before.

    The file's owner, its mode and a link to it stay, and only users who may read the file could
    ever read the draft.  Raises ConfigError.
    """
    path = Path(os.path.realpath(path))
    try:
        if not path.exists():
            path.write_text(text, encoding="utf-8")
            return
        descriptor, draft = mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                _become(file.fileno(), path)
                file.write(text)
            os.replace(draft, path)
        except BaseException:
            os.unlink(draft)
            raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None


def _become(descriptor: int, path: Path) -> None:
    """Give an open file the owner and the mode of that one."""
    new, old = os.fstat(descriptor), path.stat()
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(descriptor, old.st_uid, old.st_gid)
        except PermissionError:
            raise ConfigError(
                f"{path} belongs to user {old.st_uid} and group {old.st_gid}, which it would lose: "
                "run this as that user."
            ) from None
    os.fchmod(descriptor, old.st_mode & 0o7777)
