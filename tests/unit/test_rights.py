"""What is granted to a user of ours, server by server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from frappe_jobs.deploy.rights import grants, rabbitmq_patterns
from frappe_jobs.errors import ConfigError
from frappe_jobs.servers.in_force import SettingsInForce


def granted(**config: Any) -> list[str]:
    return [*grants(SettingsInForce(Path("/bench/sites"), custom_bench_id="shop", **config))]


def test_each_redis_gets_a_user_for_what_it_holds() -> None:
    broker, schedule, results = granted(
        redis_queue="rediss://h:1/3",
        redbeat_redis_url="unix:///run/r.sock",
        celery_result_backend="redis://h:2",
    )
    assert broker.startswith("redis-cli -h h -p 1 --tls acl setuser frappe_jobs on '>PASSWORD'")
    assert "'~shop:*'" in broker and "&/3.celery.pidbox" in broker
    assert schedule.startswith("redis-cli -s /run/r.sock acl")
    assert results.startswith("redis-cli -h h -p 2 acl")
    for line in (schedule, results):
        assert "~frappe_jobs:shop:*" in line and "celery" not in line and "'~shop:*'" not in line


def test_one_that_holds_all_gets_one_user_for_all_its_databases() -> None:
    (line,) = granted(redis_queue="redis://h/0", redbeat_redis_url="redis://h/1")
    assert "&/0.celery.pidbox" in line and line.startswith("redis-cli -h h -p 6379 acl")


def test_on_rabbitmq_the_virtual_host_is_named() -> None:
    _, user, permissions = granted(redis_queue="redis://h", celery_broker_url="amqp://h/a%20b")
    assert user == "rabbitmqctl add_user frappe_jobs PASSWORD"
    assert permissions.startswith("rabbitmqctl set_permissions -p 'a b' frappe_jobs ")


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("a.b:short", True),
        ("axb:short", False),
        ("reply.celery.pidbox", True),
        ("celery.pidbox", True),
        ("celeryev", True),
        ("celeryev.1234", True),
        ("celery", False),
        ("other", False),
    ],
)
def test_its_patterns_are_of_the_bench_and_of_celerys_own(name: str, is_ours: bool) -> None:
    for pattern in rabbitmq_patterns("a.b"):
        assert bool(re.search(pattern, name)) == is_ours


def test_a_teams_own_app_has_a_user_already() -> None:
    with pytest.raises(ConfigError, match="Beside them it needs, on Redis: ~frappe_jobs:shop"):
        granted(redis_queue="redis://h", celery_app="team")
