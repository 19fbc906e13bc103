"""The least that a user of ours must be allowed on each server, as its own command grants it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from frappe_jobs.config import Settings
from frappe_jobs.errors import ConfigError
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.servers.url import ServerURL, read_url
from frappe_jobs.servers.url_options import REDIS_SCHEMES

USER, PASSWORD = "frappe_jobs", "PASSWORD"

#: No command that reads or empties what is not the bench's; the doctor needs the last three.
COMMANDS = (
    "-@all", "+@read", "+@write", "+@pubsub", "+@transaction", "+@scripting", "+@connection",
    "-@dangerous", "+time", "+info", "+config|get",
)  # fmt: skip


def grants(settings: SettingsInForce) -> Iterator[str]:
    """A command for each server that the bench uses.

    Raises ConfigError, also for a team's own Celery app, which already has a user of its own.
    """
    if settings.celery_app:
        raise ConfigError(
            "'frappe_jobs_celery_app' names your own Celery app, whose user keeps its rights. "
            f"Beside them it needs, on Redis: ~{settings.prefix}* ~{settings.bench_id}:* "
            f"&{settings.prefix}* +@scripting; on RabbitMQ all of {settings.bench_id}:.*"
        )
    results = settings.result_backend
    urls = [settings.redis_url, settings.schedule_url]
    urls += [results] if results.partition(":")[0] in REDIS_SCHEMES else []
    servers: dict[str, set[int]] = {}
    for server in map(read_url, urls):
        servers.setdefault(_client(server), set()).add(server.database)
    for client, databases in servers.items():
        is_broker = not settings.is_amqp and client == _client(read_url(settings.broker_url))
        rule = redis_rule(settings, sorted(databases) if is_broker else [])
        yield f"{client} acl setuser {shlex.join([USER, 'on', f'>{PASSWORD}', *rule])}"
    if settings.is_amqp:
        host = read_url(settings.broker_url).virtual_host
        patterns = rabbitmq_patterns(settings.bench_id)
        yield f"rabbitmqctl add_user {USER} {PASSWORD}"
        yield f"rabbitmqctl set_permissions {shlex.join(['-p', host, USER, *patterns])}"


def redis_rule(settings: Settings, broker_databases: list[int]) -> list[str]:
    """The arguments of ``ACL SETUSER``; ``broker_databases`` are those of Celery's messages."""
    keys, channels = [f"~{settings.prefix}*"], [f"&{settings.prefix}*"]
    if broker_databases:  # kombu's own: the queues' bindings, and the workers' mailboxes
        keys += [f"~{settings.bench_id}:*", "~_kombu.binding*", "~*.celery.pidbox*"]
        for number in broker_databases:
            channels += [f"&/{number}.celery.pidbox", f"&/{number}.celeryev/*"]
    return ["resetkeys", *keys, "resetchannels", *channels, *COMMANDS]


def rabbitmq_patterns(bench_id: str) -> tuple[str, str, str]:
    """What a user may configure, write to and read from, as ``set_permissions`` takes it."""
    ours = rf"{re.escape(bench_id)}:.*|(.*\.)?celery\.pidbox|celeryev(\..*)?"
    return f"^({ours})$", rf"^({ours}|amq\.default)$", f"^({ours})$"


def _client(server: ServerURL) -> str:
    return (
        f"redis-cli -s {shlex.quote(server.path)}"
        if server.path
        else (f"redis-cli -h {server.host} -p {server.port}{' --tls' if server.tls else ''}")
    )
