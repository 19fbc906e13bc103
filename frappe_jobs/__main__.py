"""``python -m frappe_jobs`` is ``frappe-jobs``."""

from frappe_jobs.cli import main

main(prog_name="frappe-jobs")
