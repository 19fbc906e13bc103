"""The server of the run, as its processes are told."""

import os

URL = os.environ["BENCHMARKS_REDIS"]
