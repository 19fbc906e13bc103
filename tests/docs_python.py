"""A Python that runs a page's blocks, in one namespace.

Each line that it reads is a block, its place, and the site to be open meanwhile; it answers with
what the block printed, an error among it, and whether there was one.
"""

import contextlib
import io
import json
import sys

import frappe_jobs

if __name__ == "__main__":
    sys.path.pop(1)  # of this file: what a page imports is the page's own
    names = {"__name__": "__main__"}
    for line in sys.stdin:
        code, place, site = json.loads(line)
        output, failed = io.StringIO(), False
        with contextlib.redirect_stdout(output):
            try:
                with frappe_jobs.site(site) if site else contextlib.nullcontext():
                    exec(compile(code, place, "exec"), names)
            except Exception as error:
                failed = True
                print(f"{type(error).__name__}: {error}")
        print(json.dumps([output.getvalue(), failed]), flush=True)
