"""A real Frappe as the host, and our queues under Frappe's own functions."""
