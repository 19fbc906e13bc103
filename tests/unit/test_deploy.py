"""What process managers read from the files that we write for them, by their own readers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from supervisor.options import ServerOptions

from frappe_jobs.commands import bench_commands
from frappe_jobs.config import load_settings
from frappe_jobs.deploy.place import Place, here
from frappe_jobs.deploy.processes import LEAVING, plain, processes
from frappe_jobs.deploy.supervisor import supervisor
from frappe_jobs.deploy.systemd import systemd
from frappe_jobs.errors import ConfigError
from frappe_jobs.frappe_bench.way_in import WAY_IN

#: What a shell, supervisord and systemd each read in a way of their own.
FOLDERS = (
    "shop", "two words", "100%", "%h %(here)s %%", "$HOME ${HOME} $$", "~ä-日本", "it's", "a,b=c",
    "a;b#c", "back\\slash", "-x", "[x]", "(a) & |b| * ?",
)  # fmt: skip
#: What supervisord has no spelling for.
UNSPEAKABLE = ("both ' and \"", "a ;b", "a #b")
QUEUES = {"-x.y": {"timeout": 7}, "a" * 300: {}}


def place_in(folder: Path, user: str = "root") -> Place:
    folder.joinpath("sites").mkdir(parents=True)
    folder.joinpath("logs").mkdir()
    program = folder / "bin" / "frappe-jobs"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return Place(str(folder), folder / "sites", (str(program),), user)


def settings_in(place: Place, **config):
    text = str(config).replace("'", '"')
    place.sites_path.joinpath("common_site_config.json").write_text(text)
    return load_settings(place.sites_path)


def read_by_supervisor(text: str, folder: Path) -> dict:
    file = folder / "supervisord.conf"
    file.write_text("[supervisord]\n" + text)
    options = ServerOptions()
    options.realize(["-c", str(file)])
    return {
        one.name: one for group in options.process_group_configs for one in group.process_configs
    }


@pytest.mark.parametrize("name", FOLDERS)
def test_supervisord_reads_what_was_meant(name, tmp_path, monkeypatch):
    place = place_in(tmp_path / name)
    monkeypatch.chdir("/")
    todo = processes(settings_in(place, workers=QUEUES))
    found = read_by_supervisor(supervisor(todo, place), tmp_path)
    assert len(found) == len(todo) == 6
    for process in todo:
        one = found[f"{place.name}-{process.name}"]
        assert shlex.split(one.command) == place.words(process)
        assert one.directory == str(place.folder)
        assert one.environment["SITES_PATH"] == str(place.sites_path)
        assert one.environment["PATH"] == f"{place.bin}:{os.environ['PATH']}"
        assert one.stdout_logfile == str(place.logs / f"{process.name}.log")
        assert (one.stopwaitsecs, one.uid) == (process.stop_wait, 0)
        assert (one.stopasgroup, one.killasgroup, one.redirect_stderr) == (False, True, True)


@pytest.mark.parametrize("name", UNSPEAKABLE)
def test_a_folder_that_supervisord_cannot_be_told_is_an_error(name, tmp_path):
    place = place_in(tmp_path / name)
    with pytest.raises(ConfigError, match="cannot name"):
        supervisor(processes(settings_in(place)), place)


@pytest.fixture(scope="session")
def verify():
    """Has systemd look at units; skips by name where it is not installed."""
    if not (command := shutil.which("systemd-analyze")):
        pytest.skip("There is no systemd-analyze here, which reads units without running them.")

    def verify(folder: Path, units: dict[str, str]) -> str:
        for name, text in units.items():
            folder.joinpath(name).write_text(text)
        done = subprocess.run(
            [command, "verify", *(folder / name for name in units)], capture_output=True, text=True
        )
        return (done.stdout + done.stderr) if done.returncode or done.stderr else ""

    return verify


@pytest.mark.parametrize("name", [*FOLDERS, *UNSPEAKABLE])
def test_systemd_accepts_the_units(name, tmp_path, verify):
    place = place_in(tmp_path / name)
    folder = tmp_path / "units"
    folder.mkdir()
    units = systemd(processes(settings_in(place, workers=QUEUES)), place)
    assert len(units) == 7
    assert verify(folder, units) == ""


def test_systemd_says_when_the_program_is_not_there(tmp_path, verify):
    """So it has read the program's name as it was meant."""
    place = place_in(tmp_path / "two words")
    tmp_path.joinpath("two words/bin/frappe-jobs").unlink()
    said = verify(tmp_path, systemd(processes(settings_in(place)), place))
    assert f"Command {place.program[0]} is not executable" in said


def test_a_worker_may_take_its_queues_timeout_and_the_grace_to_end(tmp_path):
    place = place_in(tmp_path / "shop")
    found = processes(settings_in(place, frappe_jobs_timeout_grace=20))
    assert [process.stop_wait - LEAVING for process in found] == [320, 320, 1520, 0]
    found = processes(settings_in(place, frappe_jobs_stop_grace=60))
    assert [process.stop_wait - LEAVING for process in found] == [60, 60, 60, 0]
    units = systemd(found, place)
    assert (
        "KillMode=mixed\nTimeoutStopSec=75\n"
        in units[f"frappe-jobs-{place.name}-worker_long.service"]
    )


def test_names_stay_apart():
    assert plain("shop") == "shop"
    assert len({plain("a b"), plain("a_b"), plain("a:b"), plain("ä b")}) == 4
    assert len({plain("x" * 300), plain("x" * 301)}) == 2 and len(plain("x" * 300)) < 100


def test_a_folder_that_does_not_print_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="does not|name that prints"):
        here(settings_in(place_in(tmp_path / "a\nb")))


SAID = Path(__file__).parents[1].joinpath("data/bench_commands.txt").read_text().splitlines()
LINES = [line for line in SAID if not line.startswith("#")]


@pytest.mark.parametrize("line", LINES)
def test_what_peoples_process_managers_start_is_ours(line, tmp_path, monkeypatch):
    name, *words = line.split()
    place = place_in(tmp_path / "bench")
    settings_in(place, workers={"reports": {}}, extra_config=WAY_IN)
    monkeypatch.chdir(place.sites_path)
    frappes = click.Context(click.Group("frappe", params=[click.Option(["--site"])]))
    [command] = [one for one in bench_commands("on") if one.name == name]
    found = command.make_context(name, [*words], parent=frappes).params
    queues = re.findall(r"--queue (\S+)", line)
    names = [name for group in queues for name in group.split(",")]
    if name == "worker-pool":
        assert found["groups"] == [(names, None)] and found["num_workers"] == 3
    else:
        assert found.get("queue", []) == names


@pytest.mark.parametrize("name", ["worker", "worker-pool", "schedule"])
def test_they_take_our_options_for_logs_as_well(name, tmp_path, monkeypatch):
    place = place_in(tmp_path / "bench")
    settings_in(place, extra_config=WAY_IN)
    monkeypatch.chdir(place.sites_path)
    frappes = click.Context(click.Group("frappe", params=[click.Option(["--site"])]))
    [command] = [one for one in bench_commands("on") if one.name == name]
    words = ["--log-file", "worker.log", "--log-format", "json", "--log-level", "DEBUG"]
    found = command.make_context(name, words, parent=frappes).params
    asked = [found[option] for option in ("log_file", "log_format", "log_level")]
    assert asked == ["worker.log", "json", "debug"]
