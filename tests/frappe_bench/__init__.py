"""Beside a real Frappe bench: ``make test-bench BENCH=/path SITE=name``; skipped elsewhere."""
