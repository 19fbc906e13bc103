"""What a run of the tests has started ends with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import leftovers
import pytest

from frappe_jobs.testing import wait_until

#: A run that leaves two processes behind, in sessions of their own, one with no parent.
RUN = """
import os, subprocess, sys
sys.path[:0] = [{tests!r}]
import leftovers
leftovers.watch()
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
subprocess.Popen(sleeper, start_new_session=True, stdout=subprocess.DEVNULL)
between = f"import subprocess; subprocess.Popen({{sleeper!r}}, stdout=subprocess.DEVNULL)"
subprocess.Popen([sys.executable, "-c", between]).wait()
print(os.environ[leftovers.MARK], flush=True)
os.kill(os.getpid(), {number})
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="Processes are found in /proc.")
@pytest.mark.parametrize("number", [0, 9], ids=["ended", "killed"])
def test_what_a_run_left_behind_is_ended(number: int) -> None:
    code = RUN.format(tests=str(Path(leftovers.__file__).parent), number=number)
    environment = {name: value for name, value in os.environ.items() if name != leftovers.MARK}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    mark = run.stdout.strip()
    assert len(leftovers.marked(mark)) == 2
    wait_until(lambda: not leftovers.marked(mark), 20)
