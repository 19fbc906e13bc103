"""Command lines and configuration files of a generator: no traceback, each error is a line

Options, values and files that people, scripts and broken disks make.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from random import Random

import click
import pytest
import warm

from frappe_jobs.cli import COMMANDS, main
from frappe_jobs.config import settings_table

pytestmark = pytest.mark.timeout(3600)

#: Those that go on until they are told to stop, or start what does; and a prompt: its traceback is
#: that of the code which was typed there.
ENDLESS = {"schedule", "embedded", "web", "metrics", "shell"}
#: What makes the others end at once, or write where nobody looks.
ALWAYS = {
    "worker": ["--burst"],
    "worker-pool": ["--burst", "--num-workers", "1"],
    "jobs wait": ["--timeout", "0.1"],
}
NEVER = {"--wait", "--output", "--num-workers", "--timeout", "--concurrency", "--help"}
#: Done, an error that is said, wrong usage, out of reach.
STATUSES = {0, 1, 2, 69}


def deep(levels):
    return "[" * levels + "]" * levels


PLAIN = (
    "site1", "site2", "all", "short", "default,long", "acme.tasks.ping", "acme.tasks.echo", "json",
    "table", "1", "7", "on", "off", "0 0 * * *", "daily", "Daily Long", "method", "queued",
)  # fmt: skip
ODD = (
    "", " ", "-", "--", "-1", "0", "1e9", "9" * 25, "nan", "ä ö", "\N{PILE OF POO}", "a\nb",
    "\x1b[2J", "../..", "/etc/passwd", "site1/../site2", "os.system", "acme", "acme.", ".", "a..b",
    "%s", "{0}", "'; DROP",
    "x" * 3000, b"\xff\xfe", b"\xed\xa0\x80", "*/0 * * * *", "0 0 1 *,5 *", "1#1,*",
    "0 0 31 2 *", "null", "[]", "{}", "{half", '{"x": 1}', '{"method": 1, "now": true}', deep(3000),
    '{"x": %s}' % deep(500), '{"x": %s}' % ("9" * 6000), '{"x": NaN}', '{"\\ud800": "\\udfff"}',
)  # fmt: skip


def leaves(group, path=()):
    """Every command that does something, and the words that name it."""
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        elif not {name, *path} & ENDLESS:
            yield (*path, name), command


def command_line(random: Random, words, command):
    """One that names the command, with some of its options, arguments and others'."""
    line = [*words, *ALWAYS.get(" ".join(words), ())]
    if random.random() < 0.8:
        line[:0] = ["--site", "site1"]
    for parameter in command.params:
        value = random.choice(PLAIN if random.random() < 0.6 else ODD)
        if isinstance(parameter, click.Argument):
            line += [value] * (1 if random.random() < 0.9 else random.randrange(3))
        elif not NEVER & {*parameter.opts} and random.random() < 0.4:
            line.append(random.choice(parameter.opts))
            if not parameter.is_flag or random.random() < 0.03:
                line.append(value)
    if random.random() < 0.05:
        line.insert(random.randrange(len(line) + 1), random.choice(ODD))
    return line


def setting(random: Random, bench):
    names = [item.metadata["key"] for item in settings_table()]
    names += ["installed_apps", "time_zone", "db_type", "db_name", "db_port", "developer_mode"]
    values = [
        None, True, 0, -1, 1, 2.5, 10**30, "", "x", "5", [], {}, ["acme"], {"a": None}, "\ud800",
        {"reports": {"timeout": 5}}, {"reports": 5}, {"a b": {}}, "redis://127.0.0.1:1", "redis://",
        "amqp://x:secret@127.0.0.1:1//", "http://x", "UTC", "Mars/Phobos", "sqlite", "mariadb",
    ]  # fmt: skip
    return {random.choice(names): random.choice(values)}


def file_content(random: Random, config):
    """What somebody left in place of that configuration."""
    text = json.dumps(config)
    return random.choice(
        [
            b"", b"null", b"[]", b"\xff", b"\xef\xbb\xbf{}", text[:-1].encode(), b'{"a": 1} x',
            b"\x00" * 50,
            ('{"x": %s}' % ("9" * 6000)).encode(), ('{"x": %s}' % deep(800)).encode(),
            text.encode("utf-16"), deep(3000).encode(),
        ]  # fmt: skip
    )


def make_sites(random: Random, bench, folder):
    """A sites folder that is as it should be, or has one thing wrong with it."""
    folder = folder / "sites"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bench.sites, folder)
    what = random.random()
    if what < 0.5:
        return folder
    path = folder / random.choice(
        ["common_site_config.json", "common_site_config.json", "site1/site_config.json"]
    )
    config = json.loads(path.read_text())
    if what < 0.8:
        path.write_text(json.dumps(config | setting(random, bench)))
    elif what < 0.93:
        path.write_bytes(file_content(random, config))
    elif what < 0.97:
        path.unlink()
        path.mkdir()
    else:
        (folder / "apps.txt").write_bytes(random.choice([b"", b"\xff", b"nothing\n", b"#\n a b\n"]))
    return folder


def test_nothing_of_it_is_a_traceback(scene, random, size, found, forker, tmp_path):
    count = size(10_000, 60)
    commands = [*leaves(main)]
    statuses, faults = Counter(), []

    def try_some(number, how_many):
        chance = Random(f"{number} {random_seed}")
        folder = tmp_path / str(number)
        shutil.copytree(scene.bench.path / "acme", folder / "acme")
        for _ in range(how_many):
            sites = make_sites(chance, scene.bench, folder)
            line = command_line(chance, *chance.choice(commands))
            environment = scene.bench.environment | {"SITES_PATH": str(sites)}
            arguments = [os.fsdecode(word) for word in line]
            done = warm.run(forker.start, arguments, folder, environment, "")
            statuses[done.returncode] += 1
            said = done.stdout + done.stderr
            silent = done.returncode and not said.strip()
            if "Traceback" in said or done.returncode not in STATUSES or silent:
                faults.append((arguments, done.returncode, said[-1500:]))

    random_seed = random.random()
    with ThreadPoolExecutor(2) as pool:
        deque(pool.map(try_some, range(2), [count // 2] * 2), maxlen=0)
    assert len(COMMANDS) > 15 and len(commands) > 30
    found(f"{count:,} command lines of {len(commands)} commands: {len(faults)} tracebacks")
    assert not faults, "\n\n".join(
        f"{line}\n{status}\n{said}" for line, status, said in faults[:20]
    )
