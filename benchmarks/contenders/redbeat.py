"""RedBeat as it is, under bare Celery: its own entries, scheduler and way to send."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from itertools import count as numbers
from itertools import islice

import redis
from celery import Celery
from celery.schedules import crontab
from redbeat.decoder import RedBeatJSONEncoder
from redbeat.schedulers import RedBeatScheduler, RedBeatSchedulerEntry

from benchmarks.contenders.url import URL
from benchmarks.tasks import ARGUMENTS, noop

app = Celery("benchmarks", broker=URL)
app.conf.update(
    task_ignore_result=True,
    task_default_queue="benchmarks:default",
    task_default_priority=6,
    redbeat_redis_url=URL,
    redbeat_redis_options={"retry_period": -1},
    redbeat_lock_key=None,
)
scheduler = RedBeatScheduler(app)
server = redis.Redis.from_url(URL)
schedules = [crontab(minute=0, hour=0), crontab(minute=0), crontab(minute="*/15")]
to_be_due = numbers()


@app.task(name="benchmarks.noop")
def task(order: str, pieces: int) -> int:
    return noop(order, pieces)


def save(count: int) -> None:
    """Make so many entries, none of them due; as its own save() writes them, but in pipelines."""
    for start in range(0, count, 1000):
        with server.pipeline(transaction=False) as pipe:
            for number in range(start, min(start + 1000, count)):
                _put(pipe, number, last_run_at=datetime.now(timezone.utc), due=time.time() + 3600)
            pipe.execute()


def due(count: int) -> None:
    """Have so many entries more be due since a minute."""
    long_ago = datetime.now(timezone.utc) - timedelta(days=2)
    with server.pipeline(transaction=False) as pipe:
        for number in islice(to_be_due, count):
            _put(pipe, number, last_run_at=long_ago, due=time.time() - 60)
        pipe.execute()


def tick(count: int) -> None:
    for _ in range(count):
        scheduler.tick()


def _put(pipe: redis.client.Pipeline, number: int, *, last_run_at: datetime, due: float) -> None:
    key = RedBeatSchedulerEntry.generate_key(app, f"job-{number}")
    definition = {
        "name": f"job-{number}", "task": "benchmarks.noop", "args": [], "kwargs": ARGUMENTS,
        "options": {}, "schedule": schedules[number % len(schedules)], "enabled": True,
    }  # fmt: skip
    texts = {"definition": definition, "meta": {"last_run_at": last_run_at}}
    pipe.hset(
        key, mapping={name: json.dumps(one, cls=RedBeatJSONEncoder) for name, one in texts.items()}
    )
    pipe.zadd(app.redbeat_conf.schedule_key, {key: due})
