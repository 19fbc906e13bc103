"""Whether a Redis is safe for jobs: it keeps what it takes, on its disk too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from frappe_jobs.ledger.server import RedisServer
from frappe_jobs.texts.finding import Finding

#: The first Redis with all that our scripts need; the last that came was ZPOPMIN.
OLDEST = (5, 0)

#: Of its maxmemory, what may be in use.
FULL = 0.9

PERMISSION = (
    "Allow its user what frappe-jobs setup rights prints; those that Frappe makes may touch rq:* "
    "alone."
)

MEBIBYTE = 1024 * 1024

KEEP = "or give frappe_jobs a Redis of its own."


def check_redis(where: str, server: RedisServer) -> list[Finding]:
    """What there is to say of that Redis, which holds jobs or the schedule."""
    found = [
        *_version(where, server),
        *_role(where, server),
        *_eviction(where, server),
        *_memory(where, server),
        *_failed_writes(where, server),
        *_persistence(where, server),
    ]
    if server.refusal and not any(one.level == "error" for one in found):
        what = f"{where} takes nothing from us, so no job can be sent: {server.refusal}"
        found.append(Finding("error", what, PERMISSION))
    return found


def _version(where: str, server: RedisServer) -> Iterator[Finding]:
    if not server.version:
        what = f"{where} does not tell its version: nobody knows whether it has all commands."
        yield Finding("warning", what, f"Have {_text(OLDEST)} or newer; allow its user INFO.")
    elif server.version < OLDEST:
        what = f"{where} is {server.name}: it lacks ZPOPMIN, so no job could end as failed."
        yield Finding("error", what, f"Have {_text(OLDEST)} or newer.")


def _role(where: str, server: RedisServer) -> Iterator[Finding]:
    if server.info.get("role") == "slave":
        master = f"{server.info.get('master_host')}:{server.info.get('master_port')}"
        what = f"{where} is a replica of {master}: it takes no jobs, or loses those it takes."
        yield Finding("error", what, "Name the master in the configuration.")


def _eviction(where: str, server: RedisServer) -> Iterator[Finding]:
    policy, limit = server.info.get("maxmemory_policy"), server.info.get("maxmemory")
    if policy is None:
        what = f"{where} does not tell whether it evicts keys: jobs may vanish without an error."
        yield Finding("warning", what, "See that maxmemory-policy is noeviction; allow INFO.")
    elif policy != "noeviction":
        cure = f"redis-cli config set maxmemory-policy noeviction, and so in redis.conf; {KEEP}"
        if limit:
            what = (
                f"{where} evicts keys once it holds {_size(limit)} (maxmemory-policy {policy}): "
                "jobs, leases and the schedule vanish without an error."
            )
            yield Finding("error", what, cure)
        else:
            what = (
                f"{where} would evict keys if it had a maxmemory (maxmemory-policy {policy}): "
                "jobs would vanish without an error."
            )
            yield Finding("warning", what, cure)


def _memory(where: str, server: RedisServer) -> Iterator[Finding]:
    used, limit = server.info.get("used_memory"), server.info.get("maxmemory")
    if used is None:
        return
    if not limit:
        yield Finding("ok", f"{where} uses {_size(used)} of memory and has no limit.")
        return
    text = f"{where} uses {_size(used)} of the {_size(limit)} that it may (maxmemory)"
    if used >= limit:
        cure = "Raise maxmemory; see what fills it: redis-cli --bigkeys."
        yield Finding("error", f"{text}: it takes no more jobs.", cure)
    elif used >= FULL * limit:
        cure = "Raise maxmemory, or have more workers take what waits."
        yield Finding("warning", f"{text}: once it is full it takes no more jobs.", cure)
    else:
        yield Finding("ok", f"{text}.")


def _failed_writes(where: str, server: RedisServer) -> Iterator[Finding]:
    cure = "See its log; has its disk room, may it write to its folder (redis-cli config get dir)?"
    if _is_bad(server.info.get("aof_last_write_status")):
        what = f"{where} cannot write its append-only file: it takes no jobs until it can."
        yield Finding("error", what, cure)
    if _is_bad(server.info.get("rdb_last_bgsave_status")):
        stops = server.config.get("save") and server.config.get("stop-writes-on-bgsave-error")
        what = f"{where} could not write its last snapshot" + (
            ": it takes no jobs until it can." if stops == "yes" else ": a restart loses jobs."
        )
        yield Finding("error", what, cure)
    if _is_bad(server.info.get("aof_last_bgrewrite_status")):
        what = f"{where} could not rewrite its append-only file, which grows until it can."
        yield Finding("warning", what, cure)


def _is_bad(status: Any) -> bool:
    return status not in (None, "ok")


def _persistence(where: str, server: RedisServer) -> Iterator[Finding]:
    appends, save = server.info.get("aof_enabled"), server.config.get("save")
    if appends:
        yield _appending(where, server.config.get("appendfsync"))
    elif save:
        what = f"{where} keeps snapshots on its disk (save {save}): a crash loses what came since."
        yield Finding("ok", what, "appendonly yes loses a second at most.")
    elif appends is None or save is None:
        what = f"{where} does not tell whether it keeps anything on its disk."
        yield Finding("warning", what, "See that appendonly is yes; allow INFO and CONFIG GET.")
    else:
        what = f"{where} keeps nothing on its disk (appendonly no, save ''): a restart loses jobs."
        cure = "redis-cli config set appendonly yes, and so in redis.conf."
        yield Finding("warning", what, cure)


def _appending(where: str, sync: str | None) -> Finding:
    text = f"{where} keeps all on its disk (appendonly yes, appendfsync {sync or 'unknown'})"
    if sync == "no":
        what = f"{text}, whenever the machine likes: its crash loses half a minute of jobs."
        return Finding("warning", what, "redis-cli config set appendfsync everysec.")
    return Finding("ok", f"{text}.")


def _size(count: int) -> str:
    return f"{count / MEBIBYTE:,.0f} MiB" if count >= 10 * MEBIBYTE else f"{count / 1024:,.0f} KiB"


def _text(version: tuple[int, ...]) -> str:
    return f"Redis {'.'.join(map(str, version))}"
