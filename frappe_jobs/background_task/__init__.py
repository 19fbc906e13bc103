"""Tracked jobs: their records, and what becomes of them."""
