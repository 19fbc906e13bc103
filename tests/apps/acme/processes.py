"""acme's jobs that start processes."""

import concurrent.futures
import faulthandler
import gc
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

from acme import trace
from acme.trace import mark

import frappe_jobs as frappe
from frappe_jobs.testing import wait_until

#: Made by the first job that needs it, as apps do.
kept_pool = None


def square(number):
    return number * number


def send_squares(pipe):
    pipe.send([square(number) for number in range(3)])


def ping():
    return "pong"


def fail_leaving(pids):
    """Fail, where these are alive."""
    for pid in pids:
        os.kill(pid, 0)
    raise ValueError("on purpose")


def by_pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(square, range(3))


def by_executor(method=None):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        return list(executor.map(square, range(3)))


def by_process():
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=send_squares, args=[there])
    process.start()
    found = here.recv()
    process.join()
    return found


def by_fork():
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, bytes(square(number) for number in range(3)))
        os._exit(0)
    os.wait()
    return list(os.read(reading, 3))


def by_manager():
    with multiprocessing.Manager() as manager:
        return list(manager.list([square(number) for number in range(3)]))


WAYS = {
    "pool": lambda: by_pool("fork"), "spawned pool": lambda: by_pool("spawn"),
    "forkserver": lambda: by_pool("forkserver"), "executor": by_executor,
    "spawned executor": lambda: by_executor("spawn"), "process": by_process, "fork": by_fork,
    "manager": by_manager,
}  # fmt: skip


def compute(how):
    return WAYS[how]()


def ask_streams():
    streams = sys.stdout, sys.stderr
    sys.stdout.reconfigure(line_buffering=True)
    sys.stdout.buffer.write(b"bytes printed\n")
    sys.stdout.writelines(["text printed\n"])
    written = sys.stdout.write("again\n")
    sys.stdout.close()
    sys.stdout.flush()
    return {
        "fileno": [one.fileno() for one in streams], "encoding": sys.stdout.encoding,
        "errors": sys.stdout.errors, "isatty": sys.stdout.isatty(),
        "writable": sys.stdout.writable(), "written": written, "closed": sys.stdout.closed,
    }  # fmt: skip


def run_program():
    subprocess.run(["echo", "by a program"], stdout=sys.stdout, stderr=sys.stderr, check=True)


def handle_faults():
    faulthandler.enable()
    try:
        return faulthandler.is_enabled()
    finally:
        faulthandler.disable()


def stay():
    time.sleep(60)


#: A child, and its own; one in a session of its own; an orphan in a session of its own.
TREE = """
sleep 61 & echo $!
setsid sleep 62 & echo $!
(setsid sh -c 'sleep 63 & echo $!; exit')
sleep 64 >/dev/null
"""


def start_all(end="", swallow=False, once=False):
    if once and frappe.get_current_job().attempt > 1:
        return "the second time"
    forked = multiprocessing.get_context("fork").Process(target=stay)
    forked.start()
    shell = subprocess.Popen(["sh", "-c", TREE], stdout=subprocess.PIPE, text=True)
    pids = [forked.pid, shell.pid, *(int(shell.stdout.readline()) for _ in range(3))]
    mark("all started", pids=pids)
    if end == "finish":
        return "finished"
    if end == "again":
        wait_until(trace.path().with_name("seen").exists, 20)
        raise frappe.RetryBackgroundJobError("again")
    while True:
        try:
            time.sleep(60)
        except Exception:  # noqa: B902 - as badly written jobs do
            if not swallow:
                raise


def keep_a_pool(fail=False):
    global kept_pool
    kept_pool = kept_pool or concurrent.futures.ProcessPoolExecutor(2)
    found = list(kept_pool.map(square, range(3)))
    if fail:
        raise ValueError("on purpose")
    return found


def leave_dead_orphans(number):
    for _ in range(number):
        subprocess.run(["sh", "-c", "true & exit"], check=True)


def run_for(seconds):
    """A program, which the job waits for."""
    mark("runs")
    return subprocess.run(["sleep", str(seconds)], check=False).returncode


def count_for(seconds):
    mark("runs")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.01)


def collect():
    """How many kilobytes are shared with the worker before and after a whole collection."""
    before = _shared()
    gc.collect()
    return before, _shared()


def _shared():
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(rollup.partition("Shared_Dirty:")[2].split()[0])
