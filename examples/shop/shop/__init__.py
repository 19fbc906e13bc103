"""A small app of the kind a Frappe team has: documents, jobs, hooks."""
