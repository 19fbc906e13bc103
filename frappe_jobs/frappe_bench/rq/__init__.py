"""RQ's face: what Frappe's own code asks of a queue, a job, a worker."""
