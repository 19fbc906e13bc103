"""Whether a Redis is safe for jobs: it keeps what it accepts, also on its disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from frappe_jobs.ledger.server import RedisServer
from frappe_jobs.texts.finding import Finding

#: The first Redis with all commands that our scripts need; ZPOPMIN came last.
OLDEST = (5, 0)

#: The part of its maxmemory above which we warn.
FULL = 0.9

PERMISSION = (
    "Allow its user what frappe-jobs setup rights prints; Frappe's own Redis users may touch only "
    "rq:*."
)

MEBIBYTE = 1024 * 1024

KEEP = "or give frappe_jobs a Redis of its own."


def check_redis(where: str, server: RedisServer) -> list[Finding]:
    """The findings about that Redis, which holds jobs or the schedule."""
    found = [
        *_version(where, server),
        *_role(where, server),
        *_eviction(where, server),
        *_memory(where, server),
        *_failed_writes(where, server),
        *_persistence(where, server),
    ]
    if server.refusal and not any(finding.level == "error" for finding in found):
        what = f"{where} refuses what we write, so no job can be sent: {server.refusal}"
        found.append(Finding("error", what, PERMISSION))
    return found


def _version(where: str, server: RedisServer) -> Iterator[Finding]:
    if not server.version:
        what = f"{where} does not tell its version, so it may lack commands that we need."
        yield Finding("warning", what, f"Have {_text(OLDEST)} or newer; allow its user INFO.")
    elif server.version < OLDEST:
        what = f"{where} is {server.name}: it lacks ZPOPMIN, so no job could end as failed."
        yield Finding("error", what, f"Have {_text(OLDEST)} or newer.")


def _role(where: str, server: RedisServer) -> Iterator[Finding]:
    if server.info.get("role") == "slave":
        master = f"{server.info.get('master_host')}:{server.info.get('master_port')}"
        what = f"{where} is a replica of {master}: it accepts no jobs, or loses them."
        yield Finding("error", what, "Name the master in the configuration.")


def _eviction(where: str, server: RedisServer) -> Iterator[Finding]:
    policy, limit = server.info.get("maxmemory_policy"), server.info.get("maxmemory")
    if policy is None:
        what = f"{where} does not tell whether it evicts keys: jobs may vanish without an error."
        yield Finding("warning", what, "See that maxmemory-policy is noeviction; allow INFO.")
    elif policy != "noeviction":
        cure = f"redis-cli config set maxmemory-policy noeviction, also in redis.conf; {KEEP}"
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
        yield Finding("error", f"{text}: it accepts no more jobs.", cure)
    elif used >= FULL * limit:
        cure = "Raise maxmemory, or start more workers for the jobs that wait."
        yield Finding("warning", f"{text}: once it is full it accepts no more jobs.", cure)
    else:
        yield Finding("ok", f"{text}.")


def _failed_writes(where: str, server: RedisServer) -> Iterator[Finding]:
    cure = "See its log: is its disk full, may it write to its folder (redis-cli config get dir)?"
    if _is_bad(server.info.get("aof_last_write_status")):
        what = f"{where} cannot write its append-only file: it accepts no jobs until it can."
        yield Finding("error", what, cure)
    if _is_bad(server.info.get("rdb_last_bgsave_status")):
        stops = server.config.get("save") and server.config.get("stop-writes-on-bgsave-error")
        what = f"{where} could not write its last snapshot" + (
            ": it accepts no jobs until it can." if stops == "yes" else ": a restart loses jobs."
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
        what = (
            f"{where} keeps snapshots on its disk (save {save}): a crash loses all since the last."
        )
        yield Finding("ok", what, "appendonly yes loses a second at most.")
    elif appends is None or save is None:
        what = f"{where} does not tell whether it keeps anything on its disk."
        yield Finding("warning", what, "See that appendonly is yes; allow INFO and CONFIG GET.")
    else:
        what = f"{where} keeps nothing on its disk (appendonly no, save ''): a restart loses jobs."
        cure = "redis-cli config set appendonly yes, also in redis.conf."
        yield Finding("warning", what, cure)


def _appending(where: str, sync: str | None) -> Finding:
    text = f"{where} keeps all on its disk (appendonly yes, appendfsync {sync or 'unknown'})"
    if sync == "no":
        what = f"{text}, but only when the system flushes: a crash loses half a minute of jobs."
        return Finding("warning", what, "redis-cli config set appendfsync everysec.")
    return Finding("ok", f"{text}.")


def _size(count: int) -> str:
    return f"{count / MEBIBYTE:,.0f} MiB" if count >= 10 * MEBIBYTE else f"{count / 1024:,.0f} KiB"


def _text(version: tuple[int, ...]) -> str:
    return f"Redis {'.'.join(map(str, version))}"
