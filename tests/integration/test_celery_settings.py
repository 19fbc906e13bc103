"""What Celery's own tasks, results and messages find on the bench's app."""

from __future__ import annotations

import pytest
import redis
from acme import tasks

from frappe_jobs import runtime


def test_a_task_sent_by_celery_itself_waits_behind_what_is_at_the_front(bench):
    app = runtime.current().app
    app.tasks[tasks.celery_add.name].apply_async(kwargs={"x": 1, "y": 2})
    with redis.Redis.from_url(bench.redis_url) as server:
        waiting = [server.llen(f"{bench.id}:default{end}") for end in ("", "\x06\x166")]
    assert waiting == [0, 1]


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # by Celery
def test_the_result_of_one_is_kept_as_long_as_a_jobs(make_bench):
    here = make_bench(rq_results_ttl=77).use()
    here.app.backend.mark_as_done("the task", 42)
    key = f"{here.settings.prefix}celery-task-meta-the task"
    assert 70 < here.ledger.redis.ttl(key) <= 77


def test_what_workers_hold_lies_under_the_benchs_own_keys(bench):
    here = runtime.current()
    with here.app.connection_for_read() as connection:
        channel = connection.default_channel
        keys = channel.unacked_key, channel.unacked_index_key, channel.unacked_mutex_key
    assert len({*keys}) == 3
    assert all(key.startswith(here.settings.prefix) for key in keys)
