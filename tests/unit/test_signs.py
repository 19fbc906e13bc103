"""A sign of life is its process's: what others see of it while that lives, and after."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from frappe_jobs.alive.signs import FOLDER, OLD, SIZE, WORKER, look
from frappe_jobs.testing import wait_until

CODE = """
import os, sys
from pathlib import Path
from frappe_jobs.alive.signs import Sign
sign = Sign(Path(sys.argv[1]), "worker", name="w@here", queues=QUEUES)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


@contextmanager
def process(folder, queues=("short",)):
    """One that gives signs; called with code, it runs that."""
    code = CODE.replace("QUEUES", repr([*queues]))
    with subprocess.Popen(
        [sys.executable, "-c", code, folder], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as started:  # fmt: skip

        def do(line: str) -> None:
            started.stdin.write(f"{line}\n")
            started.stdin.flush()
            assert started.stdout.readline() == "done\n"

        yield do


def test_it_is_seen_while_its_process_lives(tmp_path):
    with process(tmp_path) as do:
        assert look(tmp_path, WORKER) == []
        do("sign.give('Redis is away', 'leads')")
        [seen] = look(tmp_path, WORKER)
        assert (seen.name, seen.queues, seen.fault, seen.state) == (
            "w@here", ["short"], "Redis is away", "leads",
        )  # fmt: skip
        assert 0 <= seen.age < 30
        assert look(tmp_path, "scheduler") == []
    assert look(tmp_path, WORKER) == []


def test_a_child_that_lives_on_does_not_keep_it(tmp_path):
    with process(tmp_path) as do:
        do("sign.give()")
        do("child = os.fork() or (os.close(0), os.close(1), os.read(os.pipe()[0], 1))")
        do(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child))")
        assert len(look(tmp_path, WORKER)) == 1
    pid = int((tmp_path / "pid").read_text())
    try:
        assert look(tmp_path, WORKER) == []
    finally:
        os.kill(pid, 9)


def test_one_that_has_left_gives_none_any_more(tmp_path):
    with process(tmp_path) as do:
        do("sign.give(); sign.leave(); sign.give()")
        assert look(tmp_path, WORKER) == []


@pytest.mark.parametrize("fault", ["", "x" * 10_000, "\N{PILE OF POO}" * 10_000])
def test_it_fits_whatever_is_to_be_said(tmp_path, fault):
    with process(tmp_path, queues=[f"queue{number}" for number in range(1000)]) as do:
        do(f"sign.give({fault!r}); sign.give()")
        [seen] = look(tmp_path, WORKER)
        assert (seen.queues, seen.fault) == (None, "")
        [file] = (tmp_path / FOLDER).iterdir()
        assert file.stat().st_size == SIZE


def test_one_that_somebody_removed_is_written_again(tmp_path):
    with process(tmp_path) as do:
        do("sign.give()")
        [file] = (tmp_path / FOLDER).iterdir()
        file.unlink()
        do("sign.give()")
        assert len(look(tmp_path, WORKER)) == 1


def test_what_the_dead_have_left_is_tidied_up_by_the_next(tmp_path):
    with process(tmp_path) as do:
        do("sign.give()")
    [dead] = (tmp_path / FOLDER).iterdir()
    recent = dead.with_name("worker-recent")
    recent.write_text("{")
    os.utime(dead, (dead.stat().st_atime, dead.stat().st_mtime - 2 * OLD))
    with process(tmp_path) as do:
        do("sign.give()")
        wait_until(lambda: not dead.exists(), 5)
        assert recent.exists() and len(look(tmp_path, WORKER)) == 1
