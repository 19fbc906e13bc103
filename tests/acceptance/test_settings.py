"""``frappe-jobs settings``: what is in force, and where it comes from."""

from __future__ import annotations

import json

import pytest
import warm

from frappe_jobs import embedded
from frappe_jobs.config import settings_table

PASSWORD = "hush"


def run(bench, *arguments, **environment):
    return warm.run(bench.start, arguments, bench.path, bench.environment | environment, "")


def listed(bench, *arguments, **environment):
    done = run(bench, *arguments, "settings", "--format", "json", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return {row["setting"]: (row["value"], row["origin"]) for row in json.loads(done.stdout)}


@pytest.fixture
def file(bench):
    return str((bench.sites / "common_site_config.json").resolve())


def test_every_setting_is_listed_with_its_default(make_bench):
    bench = make_bench(redis_queue=None)
    found = listed(bench)
    assert list(found) == [item.metadata["key"] for item in settings_table()]
    assert found["rq_results_ttl"] == (600, "default")
    assert found["redis_queue"] == found["celery_broker_url"] == (None, "default")


def test_a_value_of_the_file_says_which_file(bench, file):
    assert listed(bench)["bench_id"] == (bench.id, file)


def test_the_environment_wins_and_is_named(bench):
    found = listed(bench, FRAPPE_BENCH_ID="other", FRAPPE_WORKERS='{"reports": {"timeout": 5}}')
    assert found["bench_id"] == ("other", "FRAPPE_BENCH_ID")
    assert found["workers"] == ({"reports": {"timeout": 5}}, "FRAPPE_WORKERS")


def test_what_follows_from_another_setting_is_what_is_in_force(bench, file):
    url = f"redis://:{PASSWORD}@127.0.0.1:1/3"
    bench.write("common_site_config.json", {"redis_queue": url})
    found = listed(bench)
    assert found["redis_queue"] == ("redis://:***@127.0.0.1:1/3", file)
    for key in ("celery_broker_url", "celery_result_backend"):
        assert found[key] == ("redis://:***@127.0.0.1:1/3", "default")
    assert found["bench_id"][0] == str(bench.path.resolve()).strip("/").replace("/", "-")


@pytest.mark.parametrize("style", ["table", "json"])
@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{PASSWORD}@host/0",
        f"amqp://user:{PASSWORD}@host//",
        f"sentinel://:{PASSWORD}@one:1;sentinel://:{PASSWORD}@two:2",
        f"redis://host/0?password={PASSWORD}",
        f"redis+socket:///redis.sock?password={PASSWORD}",
    ],
)
def test_no_password_is_shown(bench, url, style):
    bench.write("common_site_config.json", {"redis_queue": "redis://host"})
    done = run(
        bench, "settings", "--format", style,
        FRAPPE_CELERY_BROKER_URL=url, FRAPPE_CELERY_RESULT_BACKEND=url,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.count("***") >= 2
    assert PASSWORD not in done.stdout + done.stderr


def test_for_people_it_is_a_table(make_bench):
    bench = make_bench(workers={"reports": {"timeout": 5}}, default_site="site1")
    lines = run(bench, "settings").stdout.splitlines()
    assert lines[0].split() == ["SETTING", "VALUE", "ORIGIN"]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert '{"reports": {"timeout": 5}}' in rows["workers"]
    assert rows["max_queued_jobs"].split() == ["max_queued_jobs", "0", "default"]
    assert rows["default_site"].split()[1] == "site1"


def test_of_an_embedded_server_it_says_so(make_bench):
    bench = make_bench(redis_queue=None)
    try:
        found = listed(bench, "--embedded")
        assert found["redis_queue"] == found["celery_broker_url"]
        assert found["redis_queue"] == (embedded.running(bench.sites), "--embedded")
    finally:
        embedded.stop(bench.sites)


def test_a_broken_setting_is_named_and_nothing_listed(bench):
    bench.write("common_site_config.json", {"background_workers": "many"})
    done = run(bench, "settings")
    assert (done.returncode, done.stdout) == (1, "")
    assert "'background_workers' must be a whole number" in done.stderr
    assert "Traceback" not in done.stderr
