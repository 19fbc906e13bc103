"""The sites folder's files and the environment become settings, or an error that says where."""

from __future__ import annotations

import json
import os
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frappe_jobs.config import (
    Queue,
    Settings,
    find_sites_path,
    load_settings,
    parse_workers,
    settings_table,
    shown,
    variable,
)
from frappe_jobs.errors import (
    BadWorkers,
    BrokerNotConfigured,
    ConfigError,
    SiteNotFound,
    UnknownQueue,
)
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.sites_folder import write_object
from frappe_jobs.texts.masking import masked

REDIS = "redis://127.0.0.1:6379/0"
SECRET = "hunter2"


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    folder = tmp_path / "bench" / "sites"
    folder.mkdir(parents=True)
    return folder


def write(sites: Path, content: Any, name: str = "common_site_config.json") -> Path:
    file = sites / name
    file.parent.mkdir(exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return file


def load(sites: Path, **config: Any) -> Settings:
    write(sites, config)
    return load_settings(sites)


class TestRenamedSettings:
    RENAMED = {"frappe_jobs_rent": "frappe_jobs_lease"}

    def test_the_old_key_is_read_with_a_warning_that_says_the_new_one(self, sites: Path) -> None:
        file = write(sites, {"frappe_jobs_rent": 90})
        with pytest.warns(FutureWarning, match="'frappe_jobs_lease' now") as found:
            read = load_settings(sites, renamed=self.RENAMED)
        assert read.lease == 90 and str(found[0].message).startswith(f"{file}: 'frappe_jobs_rent'")

    def test_the_old_variable_wins_over_the_file(
        self, sites: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(sites, {"frappe_jobs_lease": 30})
        monkeypatch.setenv("FRAPPE_JOBS_RENT", "90")
        with pytest.warns(FutureWarning, match="'FRAPPE_JOBS_LEASE' now"):
            assert load_settings(sites, renamed=self.RENAMED).lease == 90

    def test_who_gives_both_means_the_new_one(self, sites: Path) -> None:
        write(sites, {"frappe_jobs_rent": 90, "frappe_jobs_lease": 30})
        with pytest.warns(FutureWarning):
            assert load_settings(sites, renamed=self.RENAMED).lease == 30

    def test_what_was_not_renamed_warns_of_nothing(self, sites: Path) -> None:
        write(sites, {"frappe_jobs_lease": 30})
        assert load_settings(sites, renamed=self.RENAMED).lease == 30


def in_force(sites: Path, **config: Any) -> SettingsInForce:
    return SettingsInForce.of(load(sites, **config))


# --- values


def test_a_bench_that_says_nothing_has_the_defaults(sites: Path) -> None:
    found = load_settings(sites)
    assert found == Settings(sites_path=sites.resolve())
    values = {item.metadata["key"]: getattr(found, item.name) for item in settings_table()}
    defaults = {
        "redis_queue": None,
        "celery_broker_url": None,
        "celery_result_backend": None,
        "bench_id": None,
        "default_site": None,
        "workers": None,
        "background_workers": 1,
        "background_process_niceness": 10,
        "rq_job_failure_ttl": 7 * 24 * 3600,
        "rq_results_ttl": 600,
        "rq_failed_jobs_limit": 1000,
        "max_queued_jobs": 0,
        "frappe_jobs_max_message_size": 10 * 1024 * 1024,
        "frappe_jobs_timeout_grace": 10,
        "frappe_jobs_claim_ttl": 24 * 3600,
    }
    assert values.items() >= defaults.items()


@pytest.mark.parametrize("item", settings_table(), ids=lambda item: item.metadata["key"])
def test_every_setting_is_documented(item: Any) -> None:
    assert item.metadata["doc"].endswith(".")


@pytest.mark.parametrize("item", settings_table(), ids=lambda item: item.metadata["key"])
def test_null_is_as_good_as_nothing(item: Any, sites: Path) -> None:
    found = load(sites, **{item.metadata["key"]: None})
    assert getattr(found, item.name) == item.default and not found.origins


def test_what_the_file_says_counts_and_is_known_to_come_from_there(sites: Path) -> None:
    found = load(sites, redis_queue=REDIS, background_workers=3, frappe_jobs_timeout_grace=1)
    assert (found.redis_queue, found.background_workers, found.timeout_grace) == (REDIS, 3, 1)
    file = str(sites.resolve() / "common_site_config.json")
    assert found.origins == {
        "redis_queue": file, "background_workers": file, "timeout_grace": file
    }  # fmt: skip


def test_frappes_other_keys_are_left_alone(sites: Path) -> None:
    load(sites, webserver_port=8000, developer_mode=1, db_host="", socketio_port=None)


def test_settings_are_frozen(sites: Path) -> None:
    with pytest.raises(FrozenInstanceError):
        load(sites).redis_queue = REDIS  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value", "legal"),
    [
        ("bench_id", "", "a text that is not empty"),
        ("bench_id", 5, "a text that is not empty"),
        ("default_site", ["site1"], "a text that is not empty"),
        ("background_workers", 0, "a whole number, 1 or more"),
        ("background_workers", "2", "a whole number, 1 or more"),
        ("background_workers", 1.5, "a whole number, 1 or more"),
        ("background_workers", True, "a whole number, 1 or more"),
        ("background_process_niceness", -1, "a whole number, 0 or more"),
        ("rq_job_failure_ttl", 0, "a whole number, 1 or more"),
        ("rq_results_ttl", -1, "a whole number, 1 or more"),
        ("rq_failed_jobs_limit", 0, "a whole number, 1 or more"),
        ("max_queued_jobs", -1, "a whole number, 0 or more"),
        ("frappe_jobs_max_message_size", 1023, "a whole number, 1024 or more"),
        ("frappe_jobs_timeout_grace", 0, "a whole number, 1 or more"),
        ("frappe_jobs_claim_ttl", {}, "a whole number, 1 or more"),
    ],
    ids=ascii,
)
def test_a_bad_value_is_an_error_with_file_key_value_and_what_is_legal(
    key: str, value: Any, legal: str, sites: Path
) -> None:
    file = write(sites, {key: value}).resolve()
    with pytest.raises(ConfigError) as bad:
        load_settings(sites)
    assert str(bad.value) == f"{file}: {key!r} must be {legal}. It is: {value!r}."


@pytest.mark.parametrize(
    ("key", "least"),
    [
        ("background_workers", 1),
        ("background_process_niceness", 0),
        ("max_queued_jobs", 0),
        ("frappe_jobs_max_message_size", 1024),
    ],
)
def test_the_least_legal_number_is_legal(key: str, least: int, sites: Path) -> None:
    found = load(sites, **{key: least})
    assert least in [getattr(found, item.name) for item in settings_table()
                     if item.metadata["key"] == key]  # fmt: skip


# --- queues


def test_the_queues_come_in_frappes_order_with_frappes_limits(sites: Path) -> None:
    found = load(sites, workers={"alpha": {"timeout": 5000, "background_workers": 4}, "beta": {}})
    assert list(found.queues.items()) == [
        ("short", Queue("short", 300, 1)),
        ("default", Queue("default", 300, 1)),
        ("long", Queue("long", 1500, 1)),
        ("alpha", Queue("alpha", 5000, 4)),
        ("beta", Queue("beta", 300, 1)),
    ]


def test_workers_may_change_the_queues_that_are_there_and_not_their_order(sites: Path) -> None:
    found = load(sites, workers={"long": {"background_workers": 2}, "short": {"timeout": 60}})
    assert list(found.queues.values()) == [
        Queue("short", 60, 1), Queue("default", 300, 1), Queue("long", 1500, 2)
    ]  # fmt: skip


def test_background_workers_counts_for_each_queue_that_does_not_say(sites: Path) -> None:
    found = load(sites, background_workers=3, workers={"a": {"background_workers": 1}, "b": {}})
    assert [queue.background_workers for queue in found.queues.values()] == [3, 3, 3, 1, 3]


@pytest.mark.parametrize("name", [None, "", "default"])
def test_no_queue_means_default(name: str | None, sites: Path) -> None:
    assert load(sites).queue(name).name == "default"


@pytest.mark.parametrize("name", ["nope", "Short", "short ", 5, ["short"]])
def test_an_unknown_queue_is_an_error_that_lists_the_known_ones(name: Any, sites: Path) -> None:
    with pytest.raises(UnknownQueue, match="known queues: short, default, long, mine.") as unknown:
        load(sites, workers={"mine": {}}).queue(name)
    assert f"Queue {name!r} is not configured" in str(unknown.value)
    assert unknown.value.details == {"queue": name}


@pytest.mark.parametrize(
    ("workers", "says"),
    [
        (["reports"], "must be an object such as {"),
        ("reports", "must be an object such as {"),
        (7, "must be an object such as {"),
        ({"reports": 7}, "must be an object for 'reports', with the keys: timeout, background"),
        ({"reports": None}, "must be an object for 'reports', with the keys: timeout, background"),
        ({"reports": []}, "must be an object for 'reports', with the keys: timeout, background"),
        ({"a b": {}}, "letters, digits, '_', '-' and '.'; not 'a b'"),
        ({"a:b": {}}, "letters, digits, '_', '-' and '.'; not 'a:b'"),
        ({"a,b": {}}, "letters, digits, '_', '-' and '.'; not 'a,b'"),
        ({"": {}}, "letters, digits, '_', '-' and '.'; not ''"),
        ({"a\n": {}}, "letters, digits, '_', '-' and '.'; not 'a\\n'"),
        (
            {"fine": {}, "reports": {"timout": 5}},
            "for 'reports' the keys timeout, background_workers; not 'timout'",
        ),
        *(
            ({"reports": {key: wrong}},
             f"for reports.{key} a whole number, 1 or more; not {wrong!r}")
            for key in ("timeout", "background_workers")
            for wrong in (0, -1, "5", 1.5, True, None, [5])
        ),
    ],
    ids=ascii,
)  # fmt: skip
def test_a_bad_workers_entry_is_an_error_with_file_key_value_and_what_is_legal(
    workers: Any, says: str, sites: Path
) -> None:
    file = write(sites, {"workers": workers}).resolve()
    with pytest.raises(BadWorkers) as bad:
        load_settings(sites)
    assert str(bad.value).startswith(f"{file}: 'workers' must be ")
    assert says in str(bad.value)
    assert f"It is: {workers!r}" in str(bad.value)


def test_workers_that_are_right_are_taken_as_they_are() -> None:
    entry = {"my-queue_2.x": {"timeout": 1, "background_workers": 1}, "b": {}}
    assert parse_workers(entry) == entry


# --- the files


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("", "line 1, column 1: not JSON"),
        ('{"redis_queue": "redis://x"', "line 1, column 28: not JSON"),
        ('{\n  "a": 1,\n  "b" 2\n}', "line 3, column 7: not JSON"),
        ('{"ä": "ö", x}', "line 1, column 12: not JSON"),
        ("{'a': 1}", "line 1, column 2: not JSON"),
        ('{"a": 1}}', "line 1, column 9: not JSON"),
        (b'{"a": "\xff"}', "line 1, column 8: not UTF-8"),
        ('{"ä": 1,\n "öü": "'.encode() + b'\xe4"}', "line 2, column 9: not UTF-8"),
        (b'{"a":\r\n"\xc3', "line 2, column 2: not UTF-8"),
        (b"{" + b" " * 20000 + b"\n\n\xff}", "line 3, column 1: not UTF-8"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_damaged_file_is_an_error_with_file_line_and_column(
    content: str | bytes, where: str, sites: Path
) -> None:
    file = write(sites, content).resolve()
    with pytest.raises(ConfigError) as bad:
        load_settings(sites)
    assert str(bad.value).startswith(f"{file}, {where}")


def test_the_sites_own_file_is_read_as_carefully(sites: Path) -> None:
    file = write(sites, "{\n", "site1/site_config.json").resolve()
    with pytest.raises(ConfigError, match="line 2, column 1: not JSON") as bad:
        load_settings(sites).sites.config("site1")
    assert str(file) in str(bad.value)


@pytest.mark.parametrize(
    ("content", "kind"), [("[]", "list"), ("null", "NoneType"), ('"a"', "str"), ("1", "int")]
)
def test_a_file_that_holds_no_object_is_an_error(content: str, kind: str, sites: Path) -> None:
    file = write(sites, content).resolve()
    with pytest.raises(ConfigError) as bad:
        load_settings(sites)
    assert str(bad.value) == f"{file} must hold a JSON object, not {kind}."


def test_a_file_that_cannot_be_read_is_an_error_with_the_reason(sites: Path) -> None:
    (sites / "common_site_config.json").mkdir()
    with pytest.raises(ConfigError, match="common_site_config.json cannot be read: Is a dir"):
        load_settings(sites)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested deeper than 200 levels"),
        ('{"a": ' + "[" * 201 + "]" * 201 + "}", "nested deeper than 200 levels"),
        ('{"a": ' + "9" * 6000 + "}", "a number has too many digits"),
    ],
    ids=["python's limit", "ours", "digits"],
)
def test_what_python_could_not_hold_is_an_error_too(content: str, says: str, sites: Path) -> None:
    file = write(sites, content).resolve()
    with pytest.raises(ConfigError) as bad:
        load_settings(sites)
    assert str(bad.value) == f"{file} cannot be read: {says}."


# --- written


@pytest.fixture
def linked(sites: Path) -> tuple[Path, Path]:
    """A configuration that is a link, and the file that it leads to."""
    target = sites / "elsewhere.json"
    target.write_text('{"a": 1}')
    link = sites / "common_site_config.json"
    link.unlink(missing_ok=True)
    link.symlink_to(target.name)
    return link, target


def test_a_file_keeps_its_mode_and_a_link_to_it_when_it_is_written(
    linked: tuple[Path, Path],
) -> None:
    link, target = linked
    target.chmod(0o640)
    write_object(link, {"b": 2})
    assert link.is_symlink()
    assert json.loads(target.read_text()) == {"a": 1, "b": 2}
    assert target.stat().st_mode & 0o7777 == 0o640
    assert [*link.parent.glob(".*json.*")] == []


@pytest.mark.skipif(os.getuid() != 0, reason="Only root can give a file to another user.")
def test_a_file_of_another_user_stays_that_users(linked: tuple[Path, Path]) -> None:
    link, target = linked
    os.chown(target, 4321, 1234)
    write_object(link, {"b": 2})
    assert (target.stat().st_uid, target.stat().st_gid) == (4321, 1234)


@pytest.mark.skipif(os.getuid() != 0, reason="Only root can give a file to another user.")
def test_who_cannot_give_it_back_to_its_user_is_told_so(
    linked: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    link, target = linked
    os.chown(target, 4321, 1234)

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refused)
    with pytest.raises(ConfigError, match="belongs to user 4321 and group 1234.* as that user"):
        write_object(link, {"b": 2})
    assert target.read_text() == '{"a": 1}'
    assert [*link.parent.glob(".*json.*")] == []


# --- the environment


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("redis_queue", "FRAPPE_REDIS_QUEUE"),
        ("rq_results_ttl", "FRAPPE_RQ_RESULTS_TTL"),
        ("frappe_jobs_timeout_grace", "FRAPPE_JOBS_TIMEOUT_GRACE"),
    ],
)
def test_a_settings_variable_is_spelt_as_frappe_does(key: str, name: str) -> None:
    assert variable(key) == name


def test_the_environment_wins_over_the_file(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAPPE_REDIS_QUEUE", "redis://elsewhere")
    monkeypatch.setenv("FRAPPE_MAX_QUEUED_JOBS", "7")
    monkeypatch.setenv("FRAPPE_WORKERS", '{"mine": {"timeout": 9}}')
    found = load(sites, redis_queue=REDIS, max_queued_jobs=1)
    assert SettingsInForce.of(found).broker_url == "redis://elsewhere"
    assert found.max_queued_jobs == 7
    assert found.queue("mine").timeout == 9
    assert found.origins["redis_queue"] == "FRAPPE_REDIS_QUEUE"


def test_an_empty_variable_is_none(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAPPE_REDIS_QUEUE", "")
    assert load(sites, redis_queue=REDIS).redis_queue == REDIS


@pytest.mark.parametrize("value", ["5", "true", "null", '"quoted"', "[1]"])
def test_a_text_in_the_environment_is_taken_as_it_stands(
    value: str, sites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAPPE_BENCH_ID", value)
    assert load(sites).bench_id == value


def test_a_bad_variable_is_named(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAPPE_BACKGROUND_WORKERS", "many")
    with pytest.raises(ConfigError) as bad:
        load(sites, background_workers=2)
    assert str(bad.value) == (
        "FRAPPE_BACKGROUND_WORKERS: 'background_workers' must be a whole number, 1 or more. "
        "It is: 'many'."
    )


# --- the sites folder


def test_sites_path_wins_over_the_current_folder(
    sites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(sites, {})
    monkeypatch.chdir(sites)
    monkeypatch.setenv("SITES_PATH", str(tmp_path))
    assert find_sites_path() == tmp_path.resolve()


@pytest.mark.parametrize("name", ["common_site_config.json", "apps.txt"])
def test_the_current_folder_wins_over_its_sites(
    name: str, sites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = sites.parent
    (sites / name).touch()
    monkeypatch.chdir(bench)
    assert find_sites_path().resolve() == sites.resolve()
    (bench / name).touch()
    assert find_sites_path().resolve() == bench.resolve()


def test_a_sites_path_that_is_no_folder_is_an_error_and_no_reason_to_look_elsewhere(
    sites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(sites, {})
    monkeypatch.chdir(sites)
    monkeypatch.setenv("SITES_PATH", "/no/such")
    with pytest.raises(ConfigError, match="SITES_PATH is '/no/such', which is no folder"):
        find_sites_path()


def test_no_sites_folder_is_an_error_that_says_where_was_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="Go to the sites folder, or set SITES_PATH") as bad:
        load_settings()
    assert str(tmp_path) in str(bad.value)


def test_settings_without_a_path_are_those_of_the_folder_that_is_found(
    sites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(sites, {"bench_id": "mine"})
    monkeypatch.chdir(sites.parent)
    found = load_settings()
    assert (found.sites_path, found.bench_id) == (sites.resolve(), "mine")


def test_a_sites_folder_is_the_same_by_whatever_path(
    sites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sites)
    (sites.parent / "link").symlink_to(sites)
    for path in (".", "../sites", sites.parent / "link"):
        assert load_settings(path).sites_path == sites.resolve()


# --- sites and apps


def test_sites_are_the_folders_with_a_site_config_sorted(sites: Path) -> None:
    for name in ("zoo.test", "acme.test", ".archived", "old backup", "-dash"):
        write(sites, {}, f"{name}/site_config.json")
    for name in ("assets", "site.without.config"):
        (sites / name).mkdir()
    found = load_settings(sites)
    assert found.sites.names() == ["-dash", "acme.test", "zoo.test"]
    assert not found.sites.has("assets") and not found.sites.has("nope")
    assert all(found.sites.has(site) for site in found.sites.names())


def test_a_site_that_climbs_out_of_the_folder_does_not_exist(sites: Path) -> None:
    for folder in (sites, sites.parent, sites / "a" / "b", sites / "etc"):
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, {}, "site_config.json")
    found = load_settings(sites)
    climbing = [
        "../etc", "..", ".", "", "/", "a/b", "a/../etc", "./etc", "etc/", "etc\n", "etc\0",
        "a\\b", str(sites / "etc"), " etc", "*", "e" * 300, None, 5, b"etc", ["etc"],
    ]  # fmt: skip
    assert found.sites.has("etc")
    for name in climbing:
        assert not found.sites.has(name), name
        with pytest.raises(SiteNotFound, match="sites here: etc"):
            found.sites.config(name)  # type: ignore[arg-type]


def test_an_error_about_a_site_says_that_there_are_none(sites: Path) -> None:
    with pytest.raises(SiteNotFound, match="'nope' does not exist; sites here: none") as unknown:
        load_settings(sites).sites.installed_apps("nope")
    assert unknown.value.details == {"site": "nope"}


def test_a_sites_configuration_lies_over_the_common_one(sites: Path) -> None:
    write(sites, {"a": "site"}, "site1/site_config.json")
    assert load(sites, a="common", b="common").sites.config("site1") == {"a": "site", "b": "common"}


def test_a_bench_need_not_have_a_common_configuration(sites: Path) -> None:
    write(sites, {"a": 1}, "site1/site_config.json")
    assert load_settings(sites).sites.config("site1") == {"a": 1}


@pytest.mark.parametrize(
    ("apps_txt", "apps"),
    [
        (None, []),
        ("", []),
        ("acme\nshop\n", ["acme", "shop"]),
        ("  acme \r\n\n\tshop", ["acme", "shop"]),
        ("acme\n#os\n# shutil\n  # sys\n", ["acme"]),
    ],
)
def test_the_installed_apps_are_the_lines_of_apps_txt(
    apps_txt: str | None, apps: list[str], sites: Path
) -> None:
    write(sites, {}, "site1/site_config.json")
    if apps_txt is not None:
        write(sites, apps_txt, "apps.txt")
    assert list(load_settings(sites).sites.installed_apps("site1")) == apps


@pytest.mark.parametrize("apps", [["shop"], []])
def test_a_site_may_name_its_own_apps(apps: list[str], sites: Path) -> None:
    write(sites, "acme\n", "apps.txt")
    write(sites, {"installed_apps": apps}, "site1/site_config.json")
    assert list(load_settings(sites).sites.installed_apps("site1")) == apps


@pytest.mark.parametrize("apps", ["acme", {"acme": 1}, ["acme", 1], 5])
def test_installed_apps_that_are_no_list_of_names_are_an_error(apps: Any, sites: Path) -> None:
    file = write(sites, {"installed_apps": apps}, "site1/site_config.json").resolve()
    with pytest.raises(ConfigError) as bad:
        load_settings(sites).sites.installed_apps("site1")
    assert str(bad.value) == f"{file}: 'installed_apps' must be a list of names; not {apps!r}."


# --- the bench on the broker


def test_the_bench_id_is_made_from_the_benchs_folder_as_frappe_does() -> None:
    assert Settings(sites_path=Path("/home/frappe/my-bench/sites")).bench_id == (
        "home-frappe-my-bench"
    )


def test_the_bench_id_may_be_configured_and_begins_every_key(sites: Path) -> None:
    found = load(sites, bench_id="mine")
    assert (found.bench_id, found.prefix) == ("mine", "frappe_jobs:mine:")


OTHER = "rediss://other:6380/1"
AMQP = "amqp://guest@rabbit//"


@pytest.mark.parametrize(
    ("config", "broker", "records", "results"),
    [
        ({"redis_queue": REDIS}, REDIS, REDIS, REDIS),
        ({"celery_broker_url": REDIS}, REDIS, REDIS, REDIS),
        ({"redis_queue": REDIS, "celery_broker_url": OTHER}, OTHER, OTHER, OTHER),
        ({"redis_queue": REDIS, "celery_broker_url": AMQP}, AMQP, REDIS, REDIS),
        ({"redis_queue": REDIS, "celery_result_backend": "rpc://"}, REDIS, REDIS, "rpc://"),
    ],
)
def test_the_records_lie_beside_the_messages_if_the_broker_is_redis(
    config: dict[str, str], broker: str, records: str, results: str, sites: Path
) -> None:
    found = in_force(sites, **config)
    assert (found.broker_url, found.redis_url, found.result_backend) == (broker, records, results)


@pytest.mark.parametrize(
    ("key", "read"),
    [
        ("redis_queue", "broker_url"),
        ("celery_broker_url", "redis_url"),
        ("celery_result_backend", "result_backend"),
        ("redbeat_redis_url", "schedule_url"),
    ],
)
def test_a_url_that_cannot_be_read_is_an_error_that_names_its_setting(
    key: str, read: str, sites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = in_force(sites, **{"redis_queue": REDIS, key: f"redis://:{SECRET}@h:notaport"})
    with pytest.raises(ConfigError) as bad:
        getattr(found, read)
    assert str(bad.value) == (
        f"{sites.resolve() / 'common_site_config.json'}: {key!r} must be a URL with a host and a "
        "port, a number from 1 to 65535, such as host:6379. It is: 'redis://:***@h:notaport'."
    )
    monkeypatch.setenv(variable(key), "redis://h?db=x")
    with pytest.raises(ConfigError, match=f"^{variable(key)}: {key!r} must be .* a database"):
        getattr(SettingsInForce.of(load_settings(sites)), read)


def test_the_schedule_lies_in_a_redis(sites: Path) -> None:
    found = in_force(sites, redis_queue=REDIS, redbeat_redis_url=AMQP)
    with pytest.raises(ConfigError, match="'redbeat_redis_url' must be the URL of a Redis"):
        _ = found.schedule_url


def test_no_broker_is_an_error_with_the_cure_and_never_a_substitute(sites: Path) -> None:
    found = in_force(sites, celery_result_backend=REDIS)
    for read in ("broker_url", "redis_url"):
        with pytest.raises(BrokerNotConfigured, match="Set 'redis_queue' .*or ask for the embedd"):
            getattr(found, read)


@pytest.mark.parametrize(
    "config",
    [
        {"celery_broker_url": f"amqp://me:{SECRET}@rabbit//"},
        {"redis_queue": f"amqp://me:{SECRET}@rabbit//"},
    ],
)
def test_a_broker_without_a_redis_for_the_records_is_an_error(
    config: dict[str, str], sites: Path
) -> None:
    with pytest.raises(BrokerNotConfigured, match="need a Redis: set 'redis_queue'") as bad:
        _ = in_force(sites, **config).redis_url
    assert "amqp://me:***@rabbit//" in str(bad.value)


# --- passwords


@pytest.mark.parametrize(
    ("url", "shown_as"),
    [
        (f"redis://:{SECRET}@h/0", "redis://:***@h/0"),
        (f"redis://me:{SECRET}@h:6379/0", "redis://me:***@h:6379/0"),
        (f"redis://:{SECRET}@[::1]:6379/0", "redis://:***@[::1]:6379/0"),
        (f"redis://[::1:{SECRET}@h", "redis://[:***@h"),
        (f"amqp://u:{SECRET}@h", "amqp://u:***@h"),
        (f"amqp://u:{SECRET}@h//", "amqp://u:***@h//"),
        (f"redis+socket://:{SECRET}@/run/r.sock?virtual_host=1",
         "redis+socket://:***@/run/r.sock?virtual_host=1"),
        (f"sentinel://:{SECRET}@h1:1;sentinel://:{SECRET}@h2:2/0",
         "sentinel://:***@h1:1;sentinel://:***@h2:2/0"),
        (f"amqp://a:{SECRET}@h1, amqp://b:{SECRET}@h2", "amqp://a:***@h1, amqp://b:***@h2"),
        (f"amqp://a:{SECRET}@h1,amqp://b:{SECRET}@h2", "amqp://a:***@h1,amqp://b:***@h2"),
        (f"redis://h?x=1&passwd={SECRET}", "redis://h?x=1&passwd=***"),
        (f"redis://h?pwd={SECRET};x=1", "redis://h?pwd=***;x=1"),
        (f"redis://h?client_secret={SECRET}#x", "redis://h?client_secret=***#x"),
        (f"redis://h:6379/0?db=1&password={SECRET}&x=1", "redis://h:6379/0?db=1&password=***&x=1"),
        (f"redis://h:6379/0?ssl_password={SECRET}@x", "redis://h:6379/0?ssl_password=***"),
        (f"redis://h?Sentinel_Password={SECRET}", "redis://h?Sentinel_Password=***"),
        (f"db+mysql+pymysql://u:{SECRET}@h/db?charset=utf8",
         "db+mysql+pymysql://u:***@h/db?charset=utf8"),
        (f"postgresql://u:{SECRET}@/db?host=/run", "postgresql://u:***@/db?host=/run"),
        (f"host=h password={SECRET} user=u", "host=h password=*** user=u"),
        (f"me:{SECRET}@h", "me:***@h"),
        (f"redis:/me:{SECRET}@h", "redis:***@h"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://me@h/0", "redis://me@h/0"),
        ("sqlite:////srv/a.db", "sqlite:////srv/a.db"),
        ("sqlite://", "sqlite://"),
        ("memory", "memory"),
        ("", ""),
        ("redis://me:***@h", "redis://me:***@h"),
    ],
    ids=lambda value: value[:50],
)  # fmt: skip
def test_a_url_is_shown_without_its_password(url: str, shown_as: str) -> None:
    assert masked(url) == shown_as


@pytest.mark.parametrize(
    "strange", "@ / : # ? [ ] % & = ; + \\ \" ' ä".split() + [" ", "://", "@@", "\n"]
)
@pytest.mark.parametrize("form", ["redis://:{}@h:6379/0", "amqp://u:{}@h//", "u:{}@h"])
def test_a_password_of_strange_characters_is_hidden_whole(strange: str, form: str) -> None:
    for password in (f"Xx{strange}Xx", f"{strange}Xx", f"Xx{strange}", f"{strange}Xx{strange}Xx"):
        assert "Xx" not in masked(form.format(password))


@settings(max_examples=200, database=None, deadline=None)
@given(st.text(st.sampled_from("aZ0@/:#?%&.[]-"), max_size=12))
def test_no_password_is_ever_shown(around: str) -> None:
    assert SECRET not in masked(f"redis://user:{around}{SECRET}{around}@host:6379/0")


@pytest.mark.parametrize("key", ["celery_broker_url", "celery_result_backend", "redis_queue"])
@pytest.mark.parametrize(
    "value",
    [
        [f"redis://:{SECRET}@h/0"],
        [f":{SECRET}@h"],
        {"url": f"redis://:{SECRET}@h/0"},
        {"password": SECRET},
        {SECRET: 1},
    ],
    ids=ascii,
)
def test_a_url_of_a_wrong_type_is_an_error_without_the_password(
    key: str, value: Any, sites: Path
) -> None:
    with pytest.raises(ConfigError) as bad:
        load(sites, **{key: value})
    kind = type(value).__name__
    assert str(bad.value).endswith(f"{key!r} must be a text that is not empty. It is: a {kind}.")


def test_a_url_in_the_wrong_place_is_an_error_without_the_password(
    sites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAPPE_MAX_QUEUED_JOBS", f"redis://:{SECRET}@h/0")
    with pytest.raises(ConfigError, match=r"It is: 'redis://:\*\*\*@h/0'"):
        load(sites)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("db_password", SECRET, "***"),
        ("app_secret_key", [SECRET], "***"),
        ("redis_cache", f"redis://:{SECRET}@h", "'redis://:***@h'"),
        ("max_queued_jobs", -1, "-1"),
        ("workers", {"a": {}}, "{'a': {}}"),
    ],
)
def test_a_setting_is_shown_without_its_secrets(key: str, value: Any, says: str) -> None:
    assert shown(key, value) == says
