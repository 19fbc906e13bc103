"""A process that makes calls when it is told to, and answers how many seconds each took.

``starts`` sends jobs one by one to an idle worker, and answers how many seconds later each started.

python -m benchmarks.producer MODULE  # then lines such as "enqueue 300" on standard input
"""

from __future__ import annotations

import gc
import json
import random
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module

#: Seconds that a job may take to begin.
TIMEOUT = 60
#: Seconds between two jobs, in which the worker comes to rest.
REST = 0.02, 0.06


def main(module: str) -> None:
    contender = import_module(f"benchmarks.contenders.{module}")
    for line in sys.stdin:
        call, count = line.split()
        gc.collect()
        if call == "starts":
            print(json.dumps(starts(contender.enqueue_stamp, int(count))), flush=True)
            continue
        begin = time.perf_counter()
        getattr(contender, call)(int(count))
        print(time.perf_counter() - begin, flush=True)


def starts(enqueue: Callable[[str], object], count: int) -> list[float]:
    """Seconds from each call to the start of its job, after one that is not counted."""
    found = []
    told = socket.AF_UNIX, socket.SOCK_DGRAM
    with tempfile.TemporaryDirectory() as folder, socket.socket(*told) as stamps:
        stamps.settimeout(TIMEOUT)
        stamps.bind(address := f"{folder}/stamps")
        for _ in range(count + 1):
            begin = time.time()
            enqueue(address)
            found.append(float(stamps.recv(64)) - begin)
            time.sleep(random.uniform(*REST))
    return found[1:]


if __name__ == "__main__":
    main(sys.argv[1])
