"""``make test-servers``: the tests that meet servers, against newer ones than the machine has.

The servers come from newer Debian releases, each in a folder of its own outside the repository, and
run beside the machine's own, on ports of their own.
"""
