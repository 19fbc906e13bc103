"""A real Frappe as the host of jobs."""
