"""RQ's interface: what Frappe's own code uses of a queue, a job, a worker."""
