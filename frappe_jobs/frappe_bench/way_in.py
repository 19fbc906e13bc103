"""How the bench's processes come to send their jobs to Celery: ``extra_config``, and its switch.

Frappe calls the functions in ``extra_config`` of common_site_config.json whenever it opens a site.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from frappe_jobs.errors import ConfigError
from frappe_jobs.frappe_bench.rq import transport
from frappe_jobs.sites_folder import (
    COMMON_CONFIG,
    DRAINING,
    OFF,
    SITE_CONFIG,
    read_common,
    read_object,
    write_object,
)

KEY = "extra_config"
WAY_IN = f"{__name__}.use_celery"
#: Where a bench goes back to RQ, and jobs may still wait on Celery.
LOOK_BACK = f"{__name__}.look_on_celery_too"


def use_celery() -> dict[str, Any]:
    """Send this process's jobs to Celery; ``extra_config`` names this function."""
    transport.install()
    return {}


def look_on_celery_too() -> dict[str, Any]:
    """Have whoever looks for a job find it there, too; ``extra_config`` names this function."""
    transport.install_look_up()
    return {}


def state(sites_path: Path) -> str:
    """``on``, ``off``, or ``undecided``: it was switched neither on nor off."""
    config = read_common(sites_path)
    if WAY_IN in _named(config):
        return "on"
    return "off" if config.get(OFF) else "undecided"


def faults(sites_path: Path, sites: Iterable[str]) -> Iterator[str]:
    """What keeps jobs on RQ though the bench is switched on; nobody else says so.

    Frappe prints the error of a function in ``extra_config``, and goes on without it.
    """
    try:
        use_celery()
    except Exception as error:
        yield f"{WAY_IN} raises {type(error).__name__}: {error}"
    else:
        if left := transport.missing():
            yield f"this Frappe looks its queues up elsewhere: there is no {' or '.join(left)}"
    for site in sites:
        if _hides_us(sites_path / site / SITE_CONFIG):
            yield f"{KEY!r} in {site}'s {SITE_CONFIG} takes the place of that in {COMMON_CONFIG}"


def _hides_us(path: Path) -> bool:
    try:
        config = read_object(path)
        return KEY in config and WAY_IN not in _named(config)
    except ConfigError:  # the site has a finding of its own
        return False


def switch_on(sites_path: Path) -> bool:
    """Add our function to ``extra_config``, beside others; False if it was there."""
    if WAY_IN in _named(read_common(sites_path)):
        return False
    _become(sites_path, WAY_IN, {}, [OFF])
    return True


def switch_off(sites_path: Path, *, remember: bool = True) -> bool:
    """Remove our function from ``extra_config``; False if it was not there.

    With ``remember`` the configuration keeps the bench on RQ, so no worker switches it on again.
    """
    was_on = WAY_IN in _named(read_common(sites_path))
    _become(sites_path, None, {OFF: True} if remember else {}, [] if remember else [OFF])
    return was_on


def begin(sites_path: Path, wanted: str) -> None:
    """Switch; until it is complete, jobs may wait where they went before."""
    if wanted == "on":
        _become(sites_path, WAY_IN, {DRAINING: True}, [OFF])
    else:
        _become(sites_path, LOOK_BACK, {DRAINING: True, OFF: True}, [])


def complete(sites_path: Path) -> None:
    """Nothing waits any more where jobs went before."""
    way_in = WAY_IN if state(sites_path) == "on" else None
    _become(sites_path, way_in, {}, [DRAINING])


def _become(sites_path: Path, way_in: str | None, changes: dict[str, Any], gone: list[str]) -> None:
    """Have ``extra_config`` name that function of ours, or none; and set, remove these keys."""
    config = read_common(sites_path)
    named = _named(config)
    others = [path for path in named if path not in (WAY_IN, LOOK_BACK)]
    wanted = [*others, way_in] if way_in else others
    if way_in in named:
        wanted = named
    if not wanted and named:
        gone = [*gone, KEY]
    elif wanted != named:
        is_one = way_in and not others and not isinstance(config.get(KEY), list)
        changes = changes | {KEY: way_in if is_one else wanted}
    write_object(sites_path / COMMON_CONFIG, changes, remove=gone)


def _named(config: Mapping[str, Any]) -> list[str]:
    """The functions that the configuration names."""
    value = config.get(KEY) or []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(path, str) for path in value):
        return value
    raise ConfigError(
        f"{KEY!r} in {COMMON_CONFIG} must be a dotted path or a list of them; not {value!r}."
    )
