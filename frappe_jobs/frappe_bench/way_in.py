"""How the bench's processes come to send their jobs to Celery: ``extra_config``, and its switch.

Frappe calls the functions in ``extra_config`` of common_site_config.json whenever it opens a site.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frappe_jobs.errors import ConfigError
from frappe_jobs.frappe_bench.rq import transport
from frappe_jobs.sites_folder import COMMON_CONFIG, DRAINING, OFF, read_common, write_object

KEY = "extra_config"
WAY_IN = f"{__name__}.use_celery"


def use_celery() -> dict[str, Any]:
    """Send this process's jobs to Celery; ``extra_config`` names this function."""
    transport.install()
    return {}


def state(sites_path: Path) -> str:
    """``on``, ``off``, or ``undecided``: it was switched neither on nor off."""
    config = read_common(sites_path)
    if config.get(OFF):  # also while jobs of ours still wait, and our way in stays
        return "off"
    return "on" if WAY_IN in _named(config) else "undecided"


def switch_on(sites_path: Path) -> bool:
    """Add our function to ``extra_config``, beside others; False if it was there."""
    config = read_common(sites_path)
    named = _named(config)
    if WAY_IN in named and not config.get(OFF):
        return False
    named = [path for path in named if path != WAY_IN]
    value = [*named, WAY_IN] if named or isinstance(config.get(KEY), list) else WAY_IN
    write_object(sites_path / COMMON_CONFIG, {KEY: value}, remove=[OFF])
    return True


def switch_off(sites_path: Path, *, remember: bool = True) -> bool:
    """Remove our function from ``extra_config``; False if it was not there.

    With ``remember`` the configuration keeps the bench on RQ, so no worker switches it on again.
    """
    config = read_common(sites_path)
    left = [path for path in _named(config) if path != WAY_IN]
    was_on = WAY_IN in _named(config)
    changes: dict[str, Any] = {OFF: True} if remember else {}
    gone = [] if remember else [OFF]
    if was_on:
        if isinstance(config[KEY], str) or not left:
            gone.append(KEY)
        else:
            changes[KEY] = left
    write_object(sites_path / COMMON_CONFIG, changes, remove=gone)
    return was_on


def begin(sites_path: Path, wanted: str) -> None:
    """Switch, for as long as jobs may wait where they went before."""
    write_object(sites_path / COMMON_CONFIG, {DRAINING: True})
    if wanted == "on":
        switch_on(sites_path)
    else:
        # Our way in stays: whoever looks for a job finds it on either side.
        write_object(sites_path / COMMON_CONFIG, {OFF: True})


def complete(sites_path: Path) -> None:
    """Nothing waits any more where jobs went before."""
    if state(sites_path) == "off":
        switch_off(sites_path)
    write_object(sites_path / COMMON_CONFIG, {}, remove=[DRAINING])


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
