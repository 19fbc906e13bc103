"""A process that makes calls when it is told to, and answers how many seconds each took.

python -m benchmarks.producer MODULE  # then lines such as "enqueue 300" on standard input
"""

from __future__ import annotations

import gc
import sys
import time
from importlib import import_module


def main(module: str) -> None:
    contender = import_module(f"benchmarks.contenders.{module}")
    for line in sys.stdin:
        call, count = line.split()
        gc.collect()
        begin = time.perf_counter()
        getattr(contender, call)(int(count))
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
