"""What lies under the schedule's keys in Redis and is not ours."""

from __future__ import annotations

from frappe_jobs.scheduler.timetable import Timetable, of_its_kind

#: What the fault of a key of another type begins with.
KIND = "it is a "


def strangers(timetable: Timetable) -> dict[str, str]:
    """Keys of another type, and entries in the schedule that no site has, each with its fault.

    Raises BrokerUnavailable.
    """
    with timetable.reaching():
        sites = timetable.sites()
        kinds = {
            timetable.lock_key: "string", timetable.schedule_key: "zset",
            timetable.seen_key: "hash", timetable.sites_key: "set",
        }  # fmt: skip
        kinds |= {timetable.site_key(site): "set" for site in sorted(sites)}
        types = {key: timetable.redis.type(key) for key in kinds}
        wrong = {
            key: f"{KIND}{types[key]}"
            for key, kind in kinds.items()
            if types[key] not in (kind, "none")
        }
        known = {
            f"{timetable.key_prefix}{site}:{name}"
            for site in sites
            for name in timetable.members(timetable.site_key(site))
        }
        scheduled: list[str] = of_its_kind(
            lambda: timetable.redis.zrange(timetable.schedule_key, 0, -1), []
        )
    stray = [key for key in scheduled if key not in known]
    return wrong | dict.fromkeys(stray, "it is in the schedule, and no site's")


def remove_strangers(timetable: Timetable) -> None:
    """Delete such keys, and take such entries out of the schedule; a comparison makes ours anew.

    Raises BrokerUnavailable.
    """
    for key, why in strangers(timetable).items():
        with timetable.reaching():
            if why.startswith(KIND):
                timetable.redis.delete(key)
            else:
                timetable.redis.zrem(timetable.schedule_key, key)
